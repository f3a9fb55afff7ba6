package exeat.issue_test

import data.exeat.issue

at(text) := time.parse_rfc3339_ns(text)

monday_morning := at("2026-03-02T09:30:00+01:00")

sunday := at("2026-03-01T11:00:00+01:00")

monday_night := at("2026-03-02T22:00:00+01:00")

# Summer time: 07:30 UTC is half past nine in Berlin.
summer := at("2026-07-06T07:30:00Z")

request(environment, risk, when) := {"environment": environment, "risk": risk, "time": when}

test_medium_risk_in_office_hours if issue.allow with input as request("production", "medium", monday_morning)

test_summer_time_counts if issue.allow with input as request("production", "medium", summer)

test_not_at_night if not issue.allow with input as request("production", "medium", monday_night)

test_not_on_sunday if not issue.allow with input as request("production", "medium", sunday)

test_low_risk_at_night if issue.allow with input as request("production", "low", monday_night)

test_staging_on_sunday if issue.allow with input as request("staging", "medium", sunday)

test_no_environment if count(issue.deny) == 1 with input as request("", "medium", monday_morning)

test_no_environment_low_risk if count(issue.deny) == 0 with input as request("", "low", monday_night)
