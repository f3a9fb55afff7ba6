package exeat.issue_test

import data.exeat.issue

request(share) := {"capability": "read-ticket", "history": {"share24h": share}}

test_now_and_then if {
	issue.allow with input as request(0.1)
	not issue.ttl with input as request(0.1)
	not issue.approval with input as request(0.1)
}

test_often_is_short if {
	issue.ttl == "2m" with input as request(0.3)
	not issue.approval with input as request(0.3)
}

test_very_often_needs_a_person if issue.approval.count == 1 with input as request(0.45)

test_standing_access_is_none if issue.deny == {"the agent held read-ticket for 60% of the last day: give the work an identity and a review of its own"} with input as request(0.6)
