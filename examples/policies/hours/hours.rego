# In production, what can change something is granted in office hours only;
# what only reads, and everything elsewhere, at any time.
package exeat.issue

default allow := false

allow if input.environment in {"development", "staging"}

allow if input.risk == "low"

allow if office_hours

# Who does not say where an agent runs gets no more than low risk.
deny contains "set spec.environment of the agent: without one it gets low risk only" if {
	input.environment == ""
	input.risk != "low"
}

office_hours if {
	local := [input.time, "Europe/Berlin"]
	not time.weekday(local) in {"Saturday", "Sunday"}
	[hour, _, _] := time.clock(local)
	hour >= 9
	hour < 17
}
