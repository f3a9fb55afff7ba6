package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/store"
)

// headerKey names one attempt of a caller (draft-ietf-httpapi-idempotency-key-header).
const headerKey = "Idempotency-Key"

// headerReplayed marks an answer that is that of an earlier attempt.
const headerReplayed = "Idempotency-Replayed"

// Bounds of what is kept of an attempt.
const (
	maxKey     = 128
	maxKept    = 256 << 10 // bytes of an answer
	keepKeys   = 24 * time.Hour
	sweepKeys  = 10 * time.Minute
	attemptFor = writeTimeout // after which a running attempt has surely ended
)

// attempt is one keyed request, in the store: what was asked, and once it was
// done what was answered. The answer to a started task holds its credential,
// as the task's own record does.
type attempt struct {
	Asked  []byte    `json:"asked"` // SHA-256 of the request
	Began  time.Time `json:"began"`
	Status int       `json:"status,omitempty"` // 0 while it runs
	Type   string    `json:"type,omitempty"`
	Body   []byte    `json:"body,omitempty"`
}

// once serves a keyed request at most once: a repetition gets the first answer.
// What failed on our side is forgotten, so that it can be tried again.
func (s *Server) once(w http.ResponseWriter, req *http.Request, r *router, route *route, c grant.Caller) *Problem {
	key, p := keyOf(req)
	if p != nil {
		return p
	}
	body, err := io.ReadAll(req.Body) // it is in memory already
	if err != nil {
		return problemOf(err)
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	place := placeOf(c, route, key)
	asked := sha256.Sum256([]byte(req.URL.Path + "\x00" + req.URL.RawQuery + "\x00" + string(body)))
	now := s.now()
	rev, err := s.claim(req.Context(), place, attempt{Asked: asked[:], Began: now})
	if errors.Is(err, store.ErrConflict) {
		return s.again(w, req, place, asked[:], now)
	}
	if err != nil {
		return problemOf(err)
	}
	kept := &keeper{ResponseWriter: w, header: http.Header{}, status: http.StatusOK}
	settled := false
	defer func() {
		if !settled { // it panicked, which is answered elsewhere; only the claim must not stay
			s.settle(req.Context(), place, rev, attempt{}, kept)
		}
	}()
	r.mux.ServeHTTP(kept, req)
	settled = true
	// Kept before it is sent: who has the answer can rely on getting it again.
	s.settle(req.Context(), place, rev, attempt{Asked: asked[:], Began: now, Status: kept.status}, kept)
	kept.send()
	return nil
}

// keyOf reads the key: visible ASCII, in quotes or not (RFC 8941 section 3.3.3).
func keyOf(req *http.Request) (string, *Problem) {
	values := req.Header.Values(headerKey)
	key := values[0]
	if n := len(key); n > 1 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	bad := strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
	if len(values) > 1 || key == "" || len(key) > maxKey || bad {
		return "", problem(codeMalformedHeader, "The header "+headerKey+" is one text of at most 128 visible ASCII characters, such as a UUID.")
	}
	return key, nil
}

// placeOf is where an attempt is kept. Whoever acts elsewhere, or proves
// another task, has other keys: an answer is for who asked.
func placeOf(c grant.Caller, route *route, key string) string {
	h := sha256.New()
	for _, part := range []string{c.Name, string(c.TaskFromRoom), c.Proof.Expose(), route.name, key} {
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (s *Server) claim(ctx context.Context, place string, a attempt) (int64, error) {
	value, err := json.Marshal(a)
	if err != nil {
		return 0, err
	}
	return s.attempts.Swap(ctx, place, 0, value)
}

// again answers a repetition.
func (s *Server) again(w http.ResponseWriter, req *http.Request, place string, asked []byte, now time.Time) *Problem {
	e, err := s.attempts.Get(req.Context(), place)
	if errors.Is(err, store.ErrNotFound) {
		return problem(codeAttemptRuns, "The first attempt has just failed; send it again.")
	}
	if err != nil {
		return problemOf(err)
	}
	var a attempt
	if err := json.Unmarshal(e.Value, &a); err != nil {
		return problemOf(err)
	}
	switch {
	case !bytes.Equal(a.Asked, asked):
		return problem(codeKeyReused, "The key was used for another request; use a new key for each.")
	case a.Status == 0 && now.Sub(a.Began) > attemptFor:
		return problem(codeAttemptLost, "Whether the first attempt was done is not known: its server ended meanwhile. Read what there is, then use a new key.")
	case a.Status == 0:
		w.Header().Set("Retry-After", "1")
		return problem(codeAttemptRuns, "The first attempt is still running; send it again in a moment.")
	}
	w.Header().Set("Content-Type", a.Type)
	w.Header().Set(headerReplayed, "true")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // the caller has gone: nobody is left to tell
	return nil
}

// settle keeps the answer, or forgets an attempt that failed on our side or
// answered too much.
func (s *Server) settle(ctx context.Context, place string, rev int64, a attempt, k *keeper) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	var err error
	if a.Status == 0 || a.Status >= http.StatusInternalServerError || k.body.Len() > maxKept {
		err = s.attempts.Delete(ctx, place, rev)
	} else {
		a.Type, a.Body = k.header.Get("Content-Type"), k.body.Bytes()
		var value []byte
		if value, err = json.Marshal(a); err == nil {
			_, err = s.attempts.Swap(ctx, place, rev, value)
		}
	}
	if err != nil { // a repetition is told that the outcome is not known
		s.log.Warn("an idempotent request could not be kept", slog.Any("error", err))
	}
}

// keeper holds an answer back until it is kept.
type keeper struct {
	http.ResponseWriter
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is the answer's own.
func (k *keeper) Header() http.Header { return k.header }

// WriteHeader notes the status.
func (k *keeper) WriteHeader(status int) { k.status = status }

// Write keeps what is written.
func (k *keeper) Write(b []byte) (int, error) { return k.body.Write(b) }

// Unwrap is for http.ResponseController.
func (k *keeper) Unwrap() http.ResponseWriter { return k.ResponseWriter }

// send sends the answer at last.
func (k *keeper) send() {
	maps.Copy(k.ResponseWriter.Header(), k.header)
	k.ResponseWriter.WriteHeader(k.status)
	_, _ = k.ResponseWriter.Write(k.body.Bytes()) // the caller has gone: nobody is left to tell
}

// sweepAttempts forgets attempts that are old enough, until ctx ends. Several
// servers may do so at once.
func (s *Server) sweepAttempts(ctx context.Context) {
	tick := time.NewTicker(sweepKeys)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.forgetAttempts(ctx)
		}
	}
}

func (s *Server) forgetAttempts(ctx context.Context) {
	list, err := s.attempts.List(ctx, "")
	if err != nil {
		s.log.Warn("kept requests cannot be swept", slog.Any("error", err))
		return
	}
	for _, e := range list {
		var a attempt
		if json.Unmarshal(e.Value, &a) == nil && s.now().Sub(a.Began) < keepKeys {
			continue
		}
		_ = s.attempts.Delete(ctx, e.Key, e.Revision) // another server may have done it
	}
}
