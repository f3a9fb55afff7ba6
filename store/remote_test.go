package store_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// keyPair writes a certificate for loopback, its own authority, that serves
// both sides of mutual TLS.
func keyPair(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// startRemote runs an etcd that listens, for clients with a certificate only.
func startRemote(t *testing.T, certFile, keyFile string) (endpoint string) {
	t.Helper()
	c := embed.NewConfig()
	c.Name, c.Dir = "remote", filepath.Join(t.TempDir(), "etcd")
	c.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ListenPeerUrls = nil
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.LogLevel = "fatal"
	c.LogOutputs = []string{filepath.Join(t.TempDir(), "log")}
	c.ClientTLSInfo = transport.TLSInfo{CertFile: certFile, KeyFile: keyFile, TrustedCAFile: certFile, ClientCertAuth: true}
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return e.Clients[0].Addr().String()
}

func TestAClusterIsReachedByMutualTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile := keyPair(t)
	endpoint := startRemote(t, certFile, keyFile)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	cfg := store.Config{
		Endpoints: []string{endpoint}, Staleness: time.Second,
		TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13},
	}
	var stores [2]*store.Store
	for i := range stores {
		if stores[i], err = store.Open(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		defer stores[i].Close()
	}
	one, two := stores[0], stores[1]
	join(t, one)
	join(t, two)
	storetest.Publish(t, one, storetest.Set())
	task := storetest.Task(t, one)
	storetest.Grant(t, one, task, storetest.ReadTicket, "OPS-1")
	storetest.Await(t, two, one.Index().Revision())
	_, rev, err := two.ChangeTask(t.Context(), task.ID, end(two, policy.EndCompleted))
	if err != nil {
		t.Fatal(err)
	}
	if err := one.AwaitReplicas(t.Context(), authz, rev); err != nil {
		t.Fatal(err)
	}
	for _, s := range stores {
		if v := s.Index().Task(task.ID); v.Task.State != policy.Ended || v.Held[0].Grant.State != policy.Ended {
			t.Errorf("a replica that acknowledged shows %+v", v)
		}
	}

	// Without a certificate nobody comes in.
	cfg.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if s, err := store.Open(ctx, cfg); err == nil {
		s.Close()
		t.Error("a client without a certificate was let in")
	}
}
