# Data that would hurt outside needs two people of data protection, who have
# signed in just now, and is open for as short as the work takes.
package exeat.issue

allow := true

sensitive if input.sensitivity in {"confidential", "restricted"}

approval := {"count": 2, "groups": ["data-protection"], "stepUp": {"maxAge": "10m"}} if sensitive

ttl := "2m" if sensitive

deny contains "sensitive data is not for delegated tasks" if {
	sensitive
	count(input.chain) > 0
}
