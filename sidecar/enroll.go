package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Enrollment is what a new sidecar instance is told: who it is, and whom to ask.
type Enrollment struct {
	Instance       string            `json:"instance"` // its SPIFFE ID
	GRPC           string            `json:"grpc"`     // host:port, several by commas
	Authz          string            `json:"authz,omitempty"`
	API            string            `json:"api"` // URL, several by commas
	TrustDomain    string            `json:"trustDomain"`
	WorkloadSocket string            `json:"workloadSocket"`
	ClientEnv      map[string]string `json:"clientEnv,omitempty"`
}

// ErrEnroll wraps every refusal of an enrolment.
var ErrEnroll = errors.New("sidecar: cannot enrol")

// Enroll makes this process a sidecar instance of an agent. The server knows the
// process by the socket's peer credentials, so the identity is for this process
// and ends with it.
func Enroll(ctx context.Context, localSocket, agent string) (Enrollment, error) {
	body, err := json.Marshal(map[string]string{"agent": agent})
	if err != nil {
		return Enrollment{}, err
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", localSocket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://exeat/local/v1/sidecars", bytes.NewReader(body))
	if err != nil {
		return Enrollment{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return Enrollment{}, fmt.Errorf("%w: is exeatd running? %w", ErrEnroll, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return Enrollment{}, fmt.Errorf("%w: %w", ErrEnroll, err)
	}
	if resp.StatusCode/100 != 2 {
		return Enrollment{}, refusal(resp.StatusCode, answer)
	}
	return parseEnrollment(answer)
}

func parseEnrollment(answer []byte) (Enrollment, error) {
	var e Enrollment
	if err := json.Unmarshal(answer, &e); err != nil {
		return Enrollment{}, fmt.Errorf("%w: the server's answer cannot be read", ErrEnroll)
	}
	if e.Instance == "" || e.GRPC == "" || e.API == "" || e.TrustDomain == "" || e.WorkloadSocket == "" {
		return Enrollment{}, fmt.Errorf("%w: the server's answer lacks a field", ErrEnroll)
	}
	return e, nil
}

// refusal turns the server's problem document (RFC 9457) into an error.
func refusal(status int, answer []byte) error {
	var problem struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
	}
	if json.Unmarshal(answer, &problem) != nil || problem.Title == "" {
		return fmt.Errorf("%w: the server answered %d", ErrEnroll, status)
	}
	if problem.Detail == "" {
		return fmt.Errorf("%w: %s", ErrEnroll, problem.Title)
	}
	return fmt.Errorf("%w: %s: %s", ErrEnroll, problem.Title, problem.Detail)
}

// Apply fills what an enrolment says into a Config, where it is not set already.
func (e Enrollment) Apply(c *Config) {
	for field, value := range map[*string]string{
		&c.Instance: e.Instance, &c.GRPC: e.GRPC, &c.Authz: e.Authz, &c.API: e.API,
		&c.TrustDomain: e.TrustDomain, &c.WorkloadSocket: e.WorkloadSocket,
	} {
		if *field == "" {
			*field = value
		}
	}
	if c.ClientEnv == nil {
		c.ClientEnv = e.ClientEnv
	}
}
