package policy

import "encoding/base64"

// Words that the sidecar's configuration and the services that it calls must
// agree on; neither may import the other.
const (
	// Context extensions that a room's configuration puts on every Check. A
	// Check without them is denied.
	ExtensionTask        = "exeat.task"
	ExtensionAgent       = "exeat.agent"
	ExtensionDestination = "exeat.destination" // the chain's destination, or one of the two below
	// ExtensionCut is the store revision of the chain's last cut, in decimals. A
	// replica that has not applied it may still know as active what was cut, and
	// so allows nothing there.
	ExtensionCut = "exeat.cut"

	// DestinationNone is the default chain's: no destination is granted there.
	DestinationNone = "-"
	// DestinationPlain is the plain-text chain's: the authority says which.
	DestinationPlain = "+"

	HeaderGrant          = "exeat-grant"           // picks the grant for a call
	HeaderCall           = "exeat-call"            // makes a call non-repeatable
	HeaderTask           = "exeat-task"            // set by a room on its way to the API, never by a client
	HeaderTaskCredential = "exeat-task-credential" // a client's proof, at the API, of the task it acts for
	HeaderDecision       = "exeat-decision"        // a decision's ID, on denials

	// HostAPI is the API's name inside a room.
	HostAPI = "exeat.internal"
	// AccessLogName is the one log name of every access log.
	AccessLogName = "exeat"
)

// RoomName is the internal listener and cluster of a task.
func RoomName(id TaskID) string { return "room/" + string(id) }

// ProxyAuthorization is the one value of Proxy-Authorization that opens the
// task's room (RFC 7617). Whoever holds it acts within the task.
func (t Task) ProxyAuthorization() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(string(t.ID)+":"+t.Credential.Expose()))
}
