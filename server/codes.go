package server

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// Bounds of codes.
const (
	codeLives = 2 * time.Minute
	codeTries = 3
	// codeEvery is how often one may be shown: an agent that asks for many must
	// not wear out whoever reads the terminal, nor guess.
	codeEvery = 5 * time.Second
	maxCodes  = 16
	codeBytes = 5 // 40 bits, 8 letters
)

// codes proves that someone sees the terminal of this process: what is shown
// there comes back. Each is for one request with one meaning, and works once.
type codes struct {
	terminal io.Writer // nil: there is none
	now      func() time.Time

	mu     sync.Mutex
	shown  map[policy.ApprovalID]*shownCode
	latest time.Time
}

type shownCode struct {
	text, digest string
	until        time.Time
	tries        int
}

func newCodes(terminal io.Writer, now func() time.Time) *codes {
	return &codes{terminal: terminal, now: now, shown: map[policy.ApprovalID]*shownCode{}}
}

// show puts a new code for a request on the terminal, which makes the one before
// void. False: not so soon.
func (c *codes) show(a grant.Approval) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if now.Before(c.latest.Add(codeEvery)) && !now.Before(c.latest) {
		return false, nil
	}
	c.latest = now
	for id, s := range c.shown {
		if !now.Before(s.until) || len(c.shown) >= maxCodes {
			delete(c.shown, id)
		}
	}
	s := &shownCode{text: newCode(), digest: a.Digest(), until: now.Add(codeLives)}
	c.shown[a.ID] = s
	_, err := io.WriteString(c.terminal, codeText(a, s.text))
	return true, err
}

func newCode() string {
	var b [codeBytes]byte
	_, _ = rand.Read(b[:]) // ends the process rather than give less
	text := base32.StdEncoding.EncodeToString(b[:])
	return text[:4] + "-" + text[4:]
}

// codeText says what the code is for, so that nobody types one for something
// else than they think. Values are quoted: they show as what they are.
func codeText(a grant.Approval, code string) string {
	var t strings.Builder
	fmt.Fprintf(&t, "\nexeatd: someone asks to approve %s here, for agent %s:\n", a.ID, strconv.QuoteToASCII(a.Agent))
	for _, i := range a.Items {
		fmt.Fprintf(&t, "  %s, %s:\n", strconv.QuoteToASCII(i.Capability), i.TTL)
		for _, call := range i.Calls {
			fmt.Fprintf(&t, "    %s\n", strconv.QuoteToASCII(call))
		}
	}
	fmt.Fprintf(&t, "  digest %s\n  The code is %s for the next %s. If this is not you, do nothing.\n\n", a.Digest(), code, codeLives)
	return t.String()
}

// take uses up a code. Too many wrong ones make the right one void.
func (c *codes) take(id policy.ApprovalID, digest, text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.shown[id]
	if s == nil {
		return false
	}
	text = strings.ToUpper(strings.TrimSpace(text))
	right := subtle.ConstantTimeCompare([]byte(s.text), []byte(text)) == 1 && s.digest == digest && c.now().Before(s.until)
	if s.tries++; right || s.tries >= codeTries {
		delete(c.shown, id)
	}
	return right
}

// asLocal makes the operator a person, once they have shown that they see this
// process's terminal. Over the network there are only people who signed in.
func (b builder) asLocal(ctx context.Context, c grant.Caller, in *approveInput) (grant.Caller, error) {
	switch {
	case !c.Operator && in.Body.Code != "":
		return c, problem(codeInvalid, "A code is for the operator's socket alone; leave it out.").at("code")
	case !c.Operator:
		return c, nil
	case b.codes.terminal == nil:
		return c, problem(codeNoTerminal, "Approve as someone who has signed in: exeat login, then exeat approvals approve.")
	}
	a, err := b.grants.Approval(ctx, c, policy.ApprovalID(in.ID))
	if err != nil {
		return c, err
	}
	if in.Body.Code == "" {
		return c, b.showCode(a, in.Body.Digest)
	}
	if !b.codes.take(a.ID, in.Body.Digest, in.Body.Code) {
		return c, problem(codeWrongCode, "The code is wrong, used or too old; ask again without a code to get another one.").at("code")
	}
	c.Person = &grant.Person{Issuer: policy.LocalIssuer, Subject: c.Name, Name: c.Name, AuthTime: b.codes.now(), Local: true}
	return c, nil
}

// showCode shows a code for what the digest says, if that is what there is.
func (b builder) showCode(a grant.Approval, digest string) error {
	if !a.Pending() {
		return &policy.VoteError{Code: policy.CodeDecided, Message: "This request is " + a.State + " already; nothing is left to decide."}
	}
	if digest != a.Digest() {
		return &policy.VoteError{Code: policy.CodeDigest, Message: "The digest is not that of the request as it is now; look at it again, and approve what you then see."}
	}
	shown, err := b.codes.show(a)
	switch {
	case err != nil:
		return problem(codeNoTerminal, "The server cannot write to its terminal; sign in with exeat login instead.")
	case !shown:
		return problem(codeTooMany, "A code was shown a moment ago; wait five seconds and ask again.")
	}
	return problem(codeCodeNeeded, "A code is on the terminal of exeatd now: read there what it is for, and send it as code within two minutes.")
}
