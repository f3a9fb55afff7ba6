package audit

import (
	"encoding/json"
	"io"
	"os"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// parsed is what is read back of a record.
type parsed struct {
	Time     time.Time `json:"time_dt"`
	Unmapped struct {
		Type        recordType       `json:"type"`
		Agent       string           `json:"agent"`
		Owner       []string         `json:"owner"`
		Instance    policy.Instance  `json:"instance"`
		Task        policy.TaskID    `json:"task"`
		Grant       policy.GrantID   `json:"grant"`
		Capability  string           `json:"capability"`
		Destination string           `json:"destination"`
		Decision    string           `json:"decision"`
		Reason      string           `json:"reason"`
		Request     string           `json:"request"`
		Query       []string         `json:"query"` // names
		Removed     []string         `json:"removed"`
		Catalog     string           `json:"catalog"`
		Store       int64            `json:"store"`
		Policy      string           `json:"policy"`
		Next        []policy.Next    `json:"next"`
		Credential  CredentialAction `json:"credential"`
		Outcome     string           `json:"outcome"`
		Code        int              `json:"code"`
		Details     string           `json:"details"`
		Flags       []string         `json:"flags"`
		Duration    int64            `json:"duration_us"`
		Sent        uint64           `json:"sent"`
		Received    uint64           `json:"received"`
		Gap         GapKind          `json:"gap"`
		Since       time.Time        `json:"since"`
		Until       time.Time        `json:"until"`
		Denied      int              `json:"denied"`
		Kept        int              `json:"kept"`
		Lost        int              `json:"lost"`
		Bytes       int64            `json:"bytes"`
		Detail      string           `json:"detail"`
	} `json:"unmapped"`
	Request struct {
		Method string `json:"http_method"`
		URL    struct {
			Scheme string `json:"scheme"`
			Host   string `json:"hostname"`
			Port   uint16 `json:"port"`
			Path   string `json:"path"`
		} `json:"url"`
	} `json:"http_request"`
}

func (p *parsed) gap() Gap {
	u := &p.Unmapped
	return Gap{
		Time: p.Time, Kind: u.Gap, Since: u.Since, Until: u.Until,
		Denied: u.Denied, Kept: u.Kept, Lost: u.Lost, Bytes: u.Bytes, Detail: u.Detail,
	}
}

// note gives what the record adds to its task's tally.
func (p *parsed) note(reasons map[string]policy.Reason) note {
	u := &p.Unmapped
	n := note{
		task: u.Task, reason: reasons[u.Reason], action: u.Credential, outcome: u.Outcome,
		sent: u.Sent, received: u.Received,
	}
	if u.Type == typeDecision && n.reason != policy.Allowed {
		r := &p.Request
		n.denial = &Denial{
			ID: u.Decision, Time: p.Time, Reason: n.reason, Method: r.Method,
			URL:         urlOf(&Call{Scheme: r.URL.Scheme, Host: r.URL.Host, Port: r.URL.Port, Path: r.URL.Path}),
			Destination: u.Destination, Capability: u.Capability, Next: u.Next,
		}
	}
	return n
}

// reasonsByName inverts Reason.String.
func reasonsByName() map[string]policy.Reason {
	m := make(map[string]policy.Reason)
	for r := policy.Reason(0); r < 255; r++ {
		if _, seen := m[r.String()]; !seen { // past the last one all are internal
			m[r.String()] = r
		}
	}
	return m
}

// rebuildBytes bounds how far back the tallies go after a restart.
const rebuildBytes = 8 << 20

// rebuild counts the end of the log again.
func (t *tallies) rebuild(segs []segment) {
	reasons := reasonsByName()
	budget := int64(rebuildBytes)
	from := len(segs)
	for from > 0 && budget > 0 {
		from--
		if info, err := os.Stat(segs[from].path); err == nil {
			budget -= info.Size()
		}
	}
	for i, s := range segs[from:] {
		skip := int64(0)
		if i == 0 {
			skip = max(0, -budget)
		}
		t.replay(s.path, skip, reasons)
	}
}

// replay counts one file after its first skip bytes. What cannot be read is
// left out: these numbers are a convenience, the log is the truth.
func (t *tallies) replay(path string, skip int64, reasons map[string]policy.Reason) {
	src, err := os.Open(path)
	if err != nil {
		return
	}
	defer src.Close()
	if _, err := src.Seek(skip, io.SeekStart); err != nil {
		return
	}
	in := newLines(src)
	for {
		line, _, err := in.next()
		if err != nil {
			return
		}
		var p parsed
		if json.Unmarshal(line, &p) != nil {
			continue // the line that skip cut in two
		}
		t.add([]*entry{{kind: p.Unmapped.Type, note: p.note(reasons)}})
	}
}
