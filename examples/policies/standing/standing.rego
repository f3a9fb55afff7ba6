# Short grants one after the other are standing access by another name. Who
# holds a capability for much of the day gets it for shorter, then only when a
# person of the owner's choosing approves, and then not at all.
package exeat.issue

allow := true

share := input.history.share24h

ttl := "2m" if share > 0.25

approval := {"count": 1, "groups": ["platform-leads"]} if share > 0.4

deny contains sprintf("the agent held %s for %.0f%% of the last day: give the work an identity and a review of its own", [input.capability, share * 100]) if {
	share > 0.5
}
