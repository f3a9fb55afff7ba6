// Package attack holds tests that try to get a call out without a grant, or a
// secret out at all. The attacker is code running as the agent, another agent,
// or a fault. Each test says which defence it tries, and does the same thing
// rightly beside it: so a denial is the defence's, not that of a broken setup.
package attack
