// Package record holds the protobuf forms in which package store keeps things
// in etcd. They are versioned; only package store turns them into values.
package record

// The generator is protoc, as the Python package grpcio-tools ships it, with
// this module's own protoc-gen-go beside it on the PATH:
//
//	go build -o "$DIR/" google.golang.org/protobuf/cmd/protoc-gen-go
//
//go:generate python3 -m grpc_tools.protoc --proto_path=../.. --go_out=../.. --go_opt=paths=source_relative store/record/record.proto
