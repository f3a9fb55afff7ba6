package identity

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// entriesFile holds the entries in force: workloads that run on while the
// authority is started again must still get their next SVID.
const entriesFile = "entries.json"

// savedEntries are entries as they are on disk. A start time means a process
// only within one boot of one machine and one PID namespace, named by Boot.
type savedEntries struct {
	Boot    string       `json:"boot"`
	Entries []savedEntry `json:"entries"`
}

type savedEntry struct {
	ID       string   `json:"spiffe_id"`
	PID      int      `json:"pid"`
	Start    uint64   `json:"start"` // clock ticks since boot
	DNSNames []string `json:"dns_names,omitempty"`
}

// saveLocked writes the entries of processes that still run. Without it they
// are lost with this process, and nothing else: so it is told, not fatal.
func (a *Authority) saveLocked() {
	boot := bootID()
	if boot == "" {
		return
	}
	out := savedEntries{Boot: boot}
	for _, e := range a.entries {
		out.Entries = append(out.Entries, savedEntry{e.source.id.String(), e.process.pid, e.process.start, e.source.dns})
	}
	data, err := json.Marshal(out)
	if err == nil {
		err = replaceFile(filepath.Join(a.dir, entriesFile), data)
	}
	if err != nil {
		a.log.Warn("registration entries are not saved: workloads lose their identity when this process ends", "error", err)
	}
}

// restore takes the saved entries whose processes still run. What cannot be read
// is left out: a workload without an entry asks again, and is told so.
func (a *Authority) restore() {
	text, err := os.ReadFile(filepath.Join(a.dir, entriesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var saved savedEntries
	if err == nil {
		err = json.Unmarshal(text, &saved)
	}
	if err != nil {
		a.log.Warn("saved registration entries cannot be read", "error", err)
		return
	}
	if boot := bootID(); boot == "" || saved.Boot != boot {
		return
	}
	for _, s := range saved.Entries {
		id, err := ParseID(s.ID)
		if err != nil || !id.MemberOf(a.td) {
			continue
		}
		a.entries = append(a.entries, &entry{
			process: process{pid: s.PID, start: s.Start}, source: a.Source(id, s.DNSNames, nil),
		})
	}
	a.entries = slices.DeleteFunc(a.entries, (*entry).gone)
}

// replaceFile writes a file of mode 0600, whole or not at all.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // half of a file is of no use
	}
	return err
}
