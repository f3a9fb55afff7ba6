package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
)

// envoyLogFormat makes each line an object; %j is the message, escaped. Warnings
// and errors hold no headers and no bodies; lower levels could.
const (
	envoyLogFormat = `{"level":"%l","logger":"%n","message":"%j"}`
	envoyLogLevel  = "warning"
	maxLogLine     = 4 << 10
)

// logWriter turns Envoy's lines into ours, and keeps the last error: it is what
// tells why Envoy did not start.
type logWriter struct {
	log *slog.Logger

	mu   sync.Mutex
	line []byte
	last string
}

// Write takes any part of Envoy's output.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for rest := p; len(rest) > 0; {
		part, after, whole := bytes.Cut(rest, []byte("\n"))
		if room := maxLogLine - len(w.line); len(part) > room {
			part = part[:room]
		}
		w.line = append(w.line, part...)
		if whole {
			w.emit()
		}
		rest = after
	}
	return len(p), nil
}

func (w *logWriter) emit() {
	var parsed struct{ Level, Logger, Message string }
	line := bytes.TrimSpace(w.line)
	w.line = w.line[:0]
	if len(line) == 0 {
		return
	}
	if json.Unmarshal(line, &parsed) != nil {
		// Before it knows its format, and when it crashes.
		parsed.Level, parsed.Message = "critical", string(line)
	}
	level := slog.LevelWarn
	if parsed.Level == "error" || parsed.Level == "critical" {
		level, w.last = slog.LevelError, parsed.Message
	}
	w.log.Log(context.Background(), level, "envoy", "logger", parsed.Logger, "message", parsed.Message)
}

func (w *logWriter) lastError() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}
