package exeat.issue_test

import data.exeat.issue

request(groups, minute, hour) := {
	"owner": {"groups": groups},
	"history": {"owner": {"requests1m": minute, "requests1h": hour, "requests24h": hour}},
}

test_below if {
	issue.allow with input as request(["support"], 29, 599)
	count(issue.deny) == 0 with input as request(["support"], 29, 599)
}

test_the_minute_is_full if issue.deny == {"the owner's agents made 30 of at most 30 requests (requests1m)"} with input as request(["support"], 30, 30)

test_the_hour_is_full if count(issue.deny) == 1 with input as request(["support"], 1, 600)

test_a_team_that_may_more if count(issue.deny) == 0 with input as request(["support", "batch-platform"], 299, 599)

test_even_they_have_a_limit if count(issue.deny) == 1 with input as request(["batch-platform"], 300, 300)
