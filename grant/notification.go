package grant

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Notification is what a webhook gets.
type Notification struct {
	ID      string              `json:"id"`   // the same for each attempt
	Type    string              `json:"type"` // approval.requested or approval.decided
	Time    time.Time           `json:"time"`
	Request NotificationRequest `json:"request"`
}

// NotificationRequest is the request that it is about. What the agent says of
// itself is not in it: who wants to know reads the request.
type NotificationRequest struct {
	ID      string             `json:"id"`
	State   string             `json:"state"`
	Agent   string             `json:"agent"`
	Owner   []string           `json:"owner,omitempty"`
	Grants  []NotificationItem `json:"grants"`
	Count   int                `json:"count"`
	Groups  [][]string         `json:"groups,omitempty"`
	Expires time.Time          `json:"expires"`
	By      string             `json:"by,omitempty"`
	// Link is where the request is read by someone who has signed in.
	Link string `json:"link,omitempty"`
}

// NotificationItem is one grant of a request.
type NotificationItem struct {
	Capability string            `json:"capability"`
	Params     map[string]string `json:"params,omitempty"`
	Risk       string            `json:"risk"`
}

func (t *telling) body(key, event string, a Approval) ([]byte, error) {
	n := Notification{
		ID: key, Type: "approval." + event, Time: t.store.Now().UTC(),
		Request: NotificationRequest{
			ID: string(a.ID), State: a.State, Agent: a.Agent, Owner: a.Owner, Count: a.Rule.Count, Groups: a.Rule.Groups,
			Expires: a.Expires.UTC(), By: a.By,
		},
	}
	if t.cfg.Link != "" {
		n.Request.Link = strings.TrimSuffix(t.cfg.Link, "/") + "/v1/approvals/" + string(a.ID)
	}
	for _, i := range a.Items {
		n.Request.Grants = append(n.Request.Grants, NotificationItem{i.Capability, i.Params, i.Risk})
	}
	if t.cfg.Format == NotifySlack {
		return json.Marshal(map[string]string{"text": n.text()})
	}
	return json.Marshal(n)
}

// text is one message for people. Values are quoted, so that they show as what
// they are, and cannot be markup.
func (n Notification) text() string {
	var asks []string
	for _, g := range n.Request.Grants {
		var params []string
		for _, k := range slices.Sorted(maps.Keys(g.Params)) {
			params = append(params, k+"="+strconv.QuoteToASCII(g.Params[k]))
		}
		asks = append(asks, strings.TrimSpace(g.Capability+" "+strings.Join(params, " "))+" ("+g.Risk+" risk)")
	}
	r := n.Request
	text := fmt.Sprintf("Agent %s asks for %s. It needs %d people until %s: exeat approvals show %s",
		r.Agent, strings.Join(asks, ", "), r.Count, r.Expires.Format(time.RFC3339), r.ID)
	if n.Type != "approval."+eventRequested {
		text = fmt.Sprintf("Request %s of agent %s for %s is %s.", r.ID, r.Agent, strings.Join(asks, ", "), r.State)
	}
	// Slack's own escapes; what else is markup is not in a quoted text or a name.
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "*", "\u2217", "`", "'").Replace(text)
}
