package service

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	scopeRead  = "ticket:read"
	scopeWrite = "ticket:write"
)

// request is what the service knows of a request beyond HTTP.
type request struct {
	claims claims
	access *Access
}

type requestKey struct{}

func requestOf(r *http.Request) *request { return r.Context().Value(requestKey{}).(*request) }

// handler logs, then verifies, then answers: nothing is answered without a token.
func (s *Service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/tickets/{ticket}", s.allow(scopeRead, s.ticket))
	mux.HandleFunc("GET /v1/tickets/{ticket}/comments", s.allow(scopeRead, s.listComments))
	mux.HandleFunc("POST /v1/tickets/{ticket}/comments", s.allow(scopeWrite, s.addComment))
	mux.HandleFunc("GET /v1/tickets/{ticket}/events", s.allow(scopeRead, s.events))
	return s.logged(s.verified(mux))
}

func (s *Service) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access := s.log.begin(r, s.cfg.Clock())
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		ctx := context.WithValue(r.Context(), requestKey{}, &request{access: access})
		defer func() { s.log.end(access, recorder.status, s.cfg.Clock()) }()
		next.ServeHTTP(recorder, r.WithContext(ctx))
	})
}

// statusRecorder remembers the status that was sent.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (w *statusRecorder) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusRecorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// verified lets through what carries one good token (RFC 6750 sections 2.1 and 3).
func (s *Service) verified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Values("Authorization")
		if len(header) != 1 {
			if len(header) == 0 {
				s.refuse(w, r, http.StatusUnauthorized, `Bearer realm="tickets"`, "no token")
				return
			}
			s.refuse(w, r, http.StatusBadRequest, `Bearer realm="tickets", error="invalid_request"`, "more than one Authorization")
			return
		}
		scheme, token, _ := strings.Cut(header[0], " ")
		if !strings.EqualFold(scheme, "Bearer") {
			s.refuse(w, r, http.StatusUnauthorized, `Bearer realm="tickets"`, "not a Bearer token")
			return
		}
		c, err := s.verify(r.Context(), token)
		if err != nil {
			challenge := fmt.Sprintf(`Bearer realm="tickets", error="invalid_token", error_description=%q`, err.Error())
			s.refuse(w, r, http.StatusUnauthorized, challenge, err.Error())
			return
		}
		q := requestOf(r)
		q.claims = c
		s.log.change(func() {
			q.access.Subject, q.access.Grant, q.access.Task, q.access.JTI = c.Subject, c.Grant, c.Task, c.ID
		})
		next.ServeHTTP(w, r)
	})
}

func (s *Service) refuse(w http.ResponseWriter, r *http.Request, status int, challenge, why string) {
	access := requestOf(r).access
	s.log.change(func() { access.Refused = why })
	w.Header().Set("WWW-Authenticate", challenge)
	answer(w, status, map[string]string{"error": why})
}

// allow lets through a token that is for this ticket and has the scope; others
// get insufficient_scope (RFC 6750 section 3.1).
func (s *Service) allow(scope string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		challenge := fmt.Sprintf(`Bearer realm="tickets", error="insufficient_scope", scope=%q`, scope)
		switch c := requestOf(r).claims; {
		case !c.hasScope(scope):
			s.refuse(w, r, http.StatusForbidden, challenge, "a token for something else")
		case c.Ticket != r.PathValue("ticket"):
			s.refuse(w, r, http.StatusForbidden, challenge, "a token for another ticket")
		default:
			next(w, r)
		}
	}
}

// ticket shows the caller whom the service took it for.
func (s *Service) ticket(w http.ResponseWriter, r *http.Request) {
	c := requestOf(r).claims
	answer(w, http.StatusOK, map[string]any{
		"ticket": r.PathValue("ticket"), "title": "The printer is on fire", "status": "open",
		"seen": map[string]string{"subject": c.Subject, "grant": c.Grant, "task": c.Task, "jti": c.ID},
	})
}

func (s *Service) listComments(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	comments := slices.Clone(s.comments[r.PathValue("ticket")])
	s.mu.Unlock()
	if comments == nil {
		comments = []comment{}
	}
	answer(w, http.StatusOK, map[string]any{"comments": comments})
}

const (
	maxBody     = 64 << 10
	maxComments = 1000
)

func (s *Service) addComment(w http.ResponseWriter, r *http.Request) {
	added := comment{Author: requestOf(r).claims.Subject}
	var body struct {
		Text string `json:"text"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&body); err != nil || body.Text == "" {
		answer(w, http.StatusBadRequest, map[string]string{"error": `want {"text": "..."}`})
		return
	}
	added.Text = body.Text
	ticket := r.PathValue("ticket")
	s.mu.Lock()
	full := len(s.comments[ticket]) == maxComments
	if !full {
		s.comments[ticket] = append(s.comments[ticket], added)
	}
	s.mu.Unlock()
	if full {
		answer(w, http.StatusConflict, map[string]string{"error": "no more comments on this ticket"})
		return
	}
	answer(w, http.StatusCreated, added)
}

// events is a stream of server-sent events that goes on until the client leaves.
func (s *Service) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w)
	access := requestOf(r).access
	ticks := time.NewTicker(s.cfg.Interval)
	defer ticks.Stop()
	for number := 1; ; number++ {
		_, err := fmt.Fprintf(w, "id: %d\nevent: ticket\ndata: {\"ticket\": %q, \"number\": %d}\n\n", number, r.PathValue("ticket"), number)
		if err != nil || flush.Flush() != nil {
			return
		}
		s.log.change(func() { access.Status, access.Events = http.StatusOK, number })
		select {
		case <-r.Context().Done():
			return
		case <-ticks.C:
		}
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has left
}
