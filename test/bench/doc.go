// Package bench measures what things cost against a control in the same run:
// ratios, and counts of what is written. It asserts nothing about wall clocks.
//
//	go test ./test/bench/ -run '^$' -bench .
package bench
