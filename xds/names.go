package xds

import (
	"strconv"
	"strings"

	"github.com/exeat-dev/exeat/policy"
)

// Names that the bootstrap of a sidecar fixes.
const (
	clusterControl = "exeat"        // ADS and SDS, by gRPC
	clusterAuthz   = "exeat_authz"  // ext_authz and access logs, by gRPC
	clusterAPI     = "api_internal" // the API, told which task by the room
	routeEgress    = "egress"       // the route table of the listener that agents use
)

// SecretCA is the SDS name of an instance's interception CA, as a validation context.
const SecretCA = "interception-ca"

const (
	roomPrefix   = "room/"
	leafPrefix   = "leaf/"
	tokenNoSNI   = "no-sni.invalid" // asked for when a client sends no SNI; "*" is no name in delta xDS
	hostPlain    = policy.DestinationPlain
	hostDefault  = policy.DestinationNone
	defaultEpoch = 0
)

// chainID names one filter chain of a room, and with it the chain's route table.
// A chain is cut by giving it another epoch: nothing else in its bytes varies.
type chainID struct {
	host  string // a DNS name, hostPlain or hostDefault
	epoch int64  // store revision of its last cut; 0: never cut
}

// routeName is the name of the chain's route table. No host holds a slash.
func (c chainID) routeName(task policy.TaskID) string {
	return policy.RoomName(task) + "/" + c.host + "/" + strconv.FormatInt(c.epoch, 10)
}

// leafName is the SDS name of the chain's certificate; empty for those that have none of their own.
func (c chainID) leafName() string {
	if c.host == hostPlain || c.host == hostDefault {
		return ""
	}
	return leafPrefix + c.host
}

// parseRouteName is the reverse of routeName. What an Envoy holds after a
// reconnect is known from the route tables that it asks for.
func parseRouteName(name string) (policy.TaskID, chainID, bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0]+"/" != roomPrefix {
		return "", chainID{}, false
	}
	epoch, err := strconv.ParseInt(parts[3], 10, 64)
	if err != nil {
		return "", chainID{}, false
	}
	return policy.TaskID(parts[1]), chainID{host: parts[2], epoch: epoch}, true
}

// taskOfRoom is the reverse of policy.RoomName.
func taskOfRoom(name string) (policy.TaskID, bool) {
	task, ok := strings.CutPrefix(name, roomPrefix)
	return policy.TaskID(task), ok && task != "" && !strings.Contains(task, "/")
}

// upstreamName is the cluster of one host of a destination: each has its own, so
// that server name and certificate check are fixed and not taken from a call.
func upstreamName(destination, host string) string { return "up/" + destination + "/" + host }
