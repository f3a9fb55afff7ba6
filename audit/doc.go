// Package audit is the record of what Exeat decided and did: a write-ahead log
// of JSON Lines in the shape of OCSF API Activity (class 6003).
//
// A decision is written before its answer leaves: [Log.Decision] returns only
// after write(2) succeeded, which survives the death of the process; with
// [Config.Sync] it is on disk first. Nothing else ever waits for the log: an
// ending goes on when the disk is full, and its record is kept in memory until
// the disk works again, with a gap record that says so.
//
// Each record holds the hash of the one before, and a signed head file says how
// far the log goes, so that an edit, a removal, another order and a cut tail are
// found by [Verify]. Not found is what nobody without an outside witness can
// find: someone who holds the signing key, the return of a whole older copy of
// the folder, and, after a crash, the loss of what was written within the last
// [Config.HeadEvery] before it.
//
// Not recorded are values of query parameters, bodies, header values and
// credentials: only their names, lengths and public handles.
package audit
