// Package store keeps what Exeat's processes agree on, in etcd, embedded or a
// cluster: records, transactions, a watch, freshness, acknowledgements and
// elections. It is the only place where roles meet.
package store
