# After a task has read restricted data, nothing of it goes to the outside: no
# call that could carry data there, whatever grants the task holds.
package exeat.call

allow := true

# Destinations (by name in the catalog) that the company runs itself.
inside := {"tickets", "wiki", "warehouse"}

deny contains "the task has read restricted data: nothing leaves to the outside any more" if {
	input.history.highestSensitivity == "restricted"
	not input.grant.destination in inside
	carries_data
}

# A body carries data, and so does a query that is long enough.
carries_data if input.call.hasBody

carries_data if not input.call.method in {"GET", "HEAD"}

carries_data if {
	some values in input.call.query
	some value in values
	count(value) > 64
}
