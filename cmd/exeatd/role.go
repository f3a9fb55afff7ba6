package main

import (
	"fmt"
	"slices"
	"strings"
)

// role is a part of exeatd that can run in a process of its own.
type role string

// The roles. Each knows only what it needs: authz alone mints, xds alone
// signs for interception, and api holds no key at all.
const (
	roleAPI   role = "api"
	roleXDS   role = "xds"
	roleAuthz role = "authz"
)

var everyRole = roles{roleAPI, roleXDS, roleAuthz}

// roles are those of one process; never none.
type roles []role

func (r roles) has(one role) bool { return slices.Contains(r, one) }

// all reports whether this process can do without others.
func (r roles) all() bool { return r.has(roleAPI) && r.has(roleXDS) && r.has(roleAuthz) }

func (r roles) String() string {
	names := make([]string, len(r))
	for i, one := range r {
		names[i] = string(one)
	}
	return strings.Join(names, ",")
}

// parseRole wants one of the three names.
func parseRole(name string) (role, error) {
	if r := role(name); everyRole.has(r) {
		return r, nil
	}
	return "", fmt.Errorf("no role %q: want %s, %s or %s", name, roleAPI, roleXDS, roleAuthz)
}

// parseRoles reads names between commas.
func parseRoles(text string) (roles, error) {
	var list roles
	for name := range strings.SplitSeq(text, ",") {
		r, err := parseRole(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		if !list.has(r) {
			list = append(list, r)
		}
	}
	return list, nil
}
