# All agents of one owner together ask for so much and no more: one that loops,
# or a fleet that does, stops here rather than at what it calls.
package exeat.issue

allow := true

limits := {"requests1m": 30, "requests1h": 600, "requests24h": 5000}

# Teams that are known to need more.
factors := {"batch-platform": 10}

factor := max({1} | {f | some group in input.owner.groups; f := factors[group]})

deny contains sprintf("the owner's agents made %d of at most %d requests (%s)", [n, most, period]) if {
	some period, limit in limits
	n := input.history.owner[period]
	most := limit * factor
	n >= most
}
