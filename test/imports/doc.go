// Package imports holds the test of who may import whom: the architecture
// page's table, read against the source.
package imports
