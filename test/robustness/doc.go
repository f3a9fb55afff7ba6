// Package robustness tests several processes of each role over a real etcd
// cluster, while they are killed, stopped and parted from each other.
package robustness
