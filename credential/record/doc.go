// Package record holds the protobuf forms in which package credential keeps
// things in etcd. They are versioned; only package credential turns them into
// values.
package record

// The generator is the one of store/record.
//
//go:generate python3 -m grpc_tools.protoc --proto_path=../.. --go_out=../.. --go_opt=paths=source_relative credential/record/record.proto
