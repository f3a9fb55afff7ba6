package xds

import (
	"cmp"
	"slices"
)

// The chains of a room are kept as sorted slices: a room has few, and a listener
// lists them in this order, so that equal sets give equal bytes.

func compareChains(a, b chainID) int {
	return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.epoch, b.epoch))
}

// base reports whether every room has a chain of this kind, whatever is granted.
func (c chainID) base() bool { return c.host == hostPlain || c.host == hostDefault }

// minus lists what is in a and not in b.
func minus(a, b []chainID) []chainID {
	return keep(a, func(c chainID) bool { return !slices.Contains(b, c) })
}

func keep(chains []chainID, ok func(chainID) bool) []chainID {
	var out []chainID
	for _, c := range chains {
		if ok(c) {
			out = append(out, c)
		}
	}
	return out
}

// nextChains says which chains a room's next listener holds. has is what the last
// one sent holds, wants what is to come to be; warm says whether a chain waits
// for nothing any more; cutting, whether a cut is under way.
//
// A listener goes into force as a whole, once its last chain is warm. So an
// update that cuts holds only chains that are in force, and those whose cut is a
// new epoch; what was still warming is withdrawn, and added again when the cut
// is done. Nothing is added before that.
func nextChains(has, wants []chainID, cutting bool, warm func(chainID) bool) []chainID {
	gone := minus(has, wants)
	if len(gone) > 0 {
		return keep(wants, func(c chainID) bool {
			recut := slices.ContainsFunc(gone, func(g chainID) bool { return g.host == c.host })
			return c.base() || recut || (slices.Contains(has, c) && warm(c))
		})
	}
	if cutting {
		return has
	}
	return wants
}
