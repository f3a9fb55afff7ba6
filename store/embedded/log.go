package embedded

import (
	"context"
	"log/slog"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Logger makes a logger for etcd's client that writes to log.
func Logger(log *slog.Logger) *zap.Logger { return zapTo(log) }

// zapTo makes etcd's logger write to log: warnings and worse, less those that
// only say that there is no listener or that the data folder is new.
func zapTo(log *slog.Logger) *zap.Logger {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return zap.New(core{log: log})
}

// expected are etcd's words for what is as it should be here.
var expected = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true,
	"Failed to detect schema version":  true, // before a new folder's first snapshot
	"failed to update storage version": true, // the same
}

// early is how raft's words end when a member's first election comes before it
// has applied its own membership: the next one, a moment later, does it.
const early = "since there are still pending configuration changes to apply"

// core is a zapcore.Core that hands entries to slog.
type core struct {
	log    *slog.Logger
	fields []zapcore.Field
}

func (c core) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log, append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

func (c core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) && !expected[e.Message] && !strings.HasSuffix(e.Message, early) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write keeps the fields together under one key, so that those of this
// program stay fixed.
func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		f.AddTo(m)
	}
	level := slog.LevelWarn
	if e.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	c.log.Log(context.Background(), level, "etcd: "+e.Message, "etcd", m.Fields)
	return nil
}

func (core) Sync() error { return nil }
