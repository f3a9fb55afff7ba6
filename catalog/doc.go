// Package catalog reads, checks and publishes catalogs.
//
// # Files
//
// A catalog is a flat folder of Kubernetes-style YAML: every *.yaml and *.yml
// in it, each with any number of documents. Folders inside it are not read
// (they may hold certificates), nor are names that begin with a dot. The one
// exception is policies/, whose *.rego files are read however deep they lie,
// but for tests (*_test.rego), which are not published. Symbolic links are followed as long as they stay
// inside, so a mounted Kubernetes ConfigMap is a catalog folder as it is.
//
// Reading is strict: unknown and repeated fields, wrong types, texts that YAML
// takes for something else, merge keys and empty values are errors. A document
// that is wrong does not hide what is wrong with the others: all errors come at
// once, each with file, line and field, and with what would be right.
//
// # Files that a catalog names
//
// They lie under the secrets root, and are opened so that neither .. nor a
// symbolic link leads out of it. Certificates become part of the catalog.
// Secrets never do: that they are there, and that nobody else may read them,
// is all that is looked at.
//
// # Publishing
//
// A Publisher looks at the content of the folder every second (by hash:
// notifications are lost on network file systems, differ between systems, and
// miss what a ConfigMap's links are swapped to). A folder that is good is published to
// the store; one that is not changes nothing there.
package catalog
