package store

import (
	"net/url"
	"strings"

	"github.com/exeat-dev/exeat/policy"
)

// Where things lie. All that authorisation depends on is under prefixState,
// which the index follows; nothing else is there.
const (
	root           = "/exeat/v1/"
	prefixState    = root + "a/"
	prefixReplica  = root + "ack/replica/"
	prefixInstance = root + "ack/instance/"
	prefixCall     = root + "call/" // looked up by transactions alone
	prefixBucket   = root + "bucket/"
	prefixElection = root + "election/"

	prefixApproval = root + "approval/"

	keyCatalog       = prefixState + "catalog"
	keyEpoch         = prefixState + "epoch"
	prefixTask       = prefixState + "task/"
	prefixGrant      = prefixState + "grant/"
	prefixCredential = prefixState + "credential/"
	prefixCut        = prefixState + "cut/"
	prefixTouch      = prefixState + "touch/"
	prefixUse        = prefixState + "use/"
	prefixFloor      = prefixState + "floor/"
	prefixBeat       = prefixState + "beat/"
)

// join puts names below a prefix. They are escaped, so that no name can reach
// out of its place.
func join(prefix string, names ...string) string {
	var b strings.Builder
	b.WriteString(prefix)
	for i, n := range names {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(url.PathEscape(n))
	}
	return b.String()
}

func keyTask(t policy.TaskID) string { return join(prefixTask, string(t)) }
func keyGrant(t policy.TaskID, g policy.GrantID) string {
	return join(prefixGrant, string(t), string(g))
}
func keyGrants(t policy.TaskID) string      { return join(prefixGrant, string(t), "") }
func keyCredentials(t policy.TaskID) string { return join(prefixCredential, string(t), "") }
func keyCut(t policy.TaskID, destination string) string {
	return join(prefixCut, string(t), destination)
}
func keyApproval(t policy.TaskID, a policy.ApprovalID) string {
	return join(prefixApproval, string(t), string(a))
}
func keyApprovals(t policy.TaskID) string { return join(prefixApproval, string(t), "") }
func keyTouch(t policy.TaskID, touch policy.Touch) string {
	return join(prefixTouch, string(t), touch.Destination, string(touch.Sensitivity))
}
func keyTouches(t policy.TaskID) string { return join(prefixTouch, string(t), "") }
func keyCuts(t policy.TaskID) string    { return join(prefixCut, string(t), "") }
func keyUse(t policy.TaskID, g policy.GrantID) string {
	return join(prefixUse, string(t), string(g))
}
func keyUses(t policy.TaskID) string              { return join(prefixUse, string(t), "") }
func keyCall(t policy.TaskID, call string) string { return join(prefixCall, string(t), call) }
func keyCalls(t policy.TaskID) string             { return join(prefixCall, string(t), "") }
func keyFloor(s policy.Scope) string              { return join(prefixFloor, string(s.Kind), s.Name) }
func keyBeat(replica string) string               { return join(prefixBeat, replica) }
func keyReplica(role, replica string) string      { return join(prefixReplica, role, replica) }
func keyInstance(i policy.Instance) string        { return join(prefixInstance, string(i)) }
func keyCredential(t policy.TaskID, g policy.GrantID) string {
	return join(prefixCredential, string(t), string(g))
}

// names takes apart what join put together below prefix; nil when key is not
// there or has another number of names.
func names(key, prefix string, want int) []string {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok {
		return nil
	}
	parts := strings.Split(rest, "/")
	if len(parts) != want {
		return nil
	}
	for i, p := range parts {
		n, err := url.PathUnescape(p)
		if err != nil {
			return nil
		}
		parts[i] = n
	}
	return parts
}
