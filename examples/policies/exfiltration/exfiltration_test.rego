package exeat.issue_test

import data.exeat.issue

request(sensitivity, chain) := {"sensitivity": sensitivity, "chain": chain}

test_two_people_for_confidential if {
	issue.approval.count == 2 with input as request("confidential", [])
	issue.approval.groups == ["data-protection"] with input as request("confidential", [])
}

test_step_up if issue.approval.stepUp.maxAge == "10m" with input as request("restricted", [])

test_short if issue.ttl == "2m" with input as request("restricted", [])

test_nobody_for_internal if {
	issue.allow with input as request("internal", [])
	not issue.approval with input as request("internal", [])
	not issue.ttl with input as request("internal", [])
}

test_not_delegated if count(issue.deny) == 1 with input as request("restricted", ["planner"])

test_internal_may_be_delegated if count(issue.deny) == 0 with input as request("internal", ["planner"])
