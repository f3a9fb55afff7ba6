package exeat.call_test

import data.exeat.call

task(highest) := {"highestSensitivity": highest}

to(destination, method, query, body) := {
	"grant": {"destination": destination},
	"call": {"method": method, "query": query, "hasBody": body},
	"history": task("restricted"),
}

test_no_write_to_the_outside if count(call.deny) == 1 with input as to("pastebin", "POST", {}, true)

test_no_delete_either if count(call.deny) == 1 with input as to("pastebin", "DELETE", {}, false)

test_no_body_on_a_read if count(call.deny) == 1 with input as to("pastebin", "GET", {}, true)

test_no_long_query if count(call.deny) == 1 with input as to("pastebin", "GET", {"q": [sprintf("%0100d", [0])]}, false)

test_a_plain_read_of_the_outside if {
	call.allow with input as to("weather", "GET", {"city": ["Berlin"]}, false)
	count(call.deny) == 0 with input as to("weather", "GET", {"city": ["Berlin"]}, false)
}

test_writes_inside_go_on if count(call.deny) == 0 with input as to("tickets", "POST", {}, true)

test_before_nothing_is_held_back if count(call.deny) == 0 with input as object.union(to("pastebin", "POST", {}, true), {"history": task("confidential")})
