package proxy

import (
	"strconv"
	"time"
)

const (
	// maxTimeoutDigits is the most that TimeoutValue may have (gRPC over
	// HTTP2, "Requests"). Envoy reads one more digit as no limit at all.
	maxTimeoutDigits = 8
	maxTimeoutMillis = 99_999_999

	// maxLag bounds how old a request may claim to be. Time left is counted
	// from when Envoy saw the request, by Envoy's clock: one that is behind
	// ours would make a stream outlive its grant by the difference. Half of
	// the second that is promised leaves room for the cut itself.
	maxLag = 500 * time.Millisecond
)

// timeoutUnits are the TimeoutUnits of gRPC over HTTP2.
var timeoutUnits = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second,
	'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

// parseTimeout reads a grpc-timeout: one to eight digits and a unit. Anything
// else is not a timeout. A value beyond what a Duration holds is the longest.
func parseTimeout(v string) (time.Duration, bool) {
	if len(v) < 2 || len(v) > maxTimeoutDigits+1 {
		return 0, false
	}
	unit, ok := timeoutUnits[v[len(v)-1]]
	if !ok {
		return 0, false
	}
	var n int64
	for _, c := range []byte(v[:len(v)-1]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	const longest = time.Duration(1<<63 - 1)
	if n > int64(longest/unit) {
		return longest, true
	}
	return time.Duration(n) * unit, true
}

// seenAt is when Envoy saw the request, in our clock: never later than now and
// never longer ago than maxLag.
func seenAt(claimed, now time.Time) time.Time {
	switch {
	case claimed.After(now):
		return now
	case claimed.Before(now.Add(-maxLag)):
		return now.Add(-maxLag)
	}
	return claimed
}

// timeLimit gives the grpc-timeout of a call seen at `at` under a grant that
// ends at until: what is left, in whole milliseconds and rounded down, or the
// agent's own limit if it has one that is shorter. Nothing left is not ok.
func timeLimit(at, until time.Time, own time.Duration, hasOwn bool) (limit string, ok bool) {
	left := until.Sub(at).Milliseconds()
	if left <= 0 {
		return "", false
	}
	left = min(left, maxTimeoutMillis)
	if hasOwn {
		left = min(left, own.Milliseconds())
	}
	return strconv.FormatInt(left, 10) + "m", true
}
