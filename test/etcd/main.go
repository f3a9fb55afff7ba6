// Command etcd runs one member of a real etcd cluster for tests: mutual TLS
// for clients and peers, tuned for elections that take a fraction of a second.
package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	var m member
	flag.StringVar(&m.name, "name", "", "the member's name")
	flag.StringVar(&m.dir, "dir", "", "its data folder")
	flag.StringVar(&m.client, "client", "", "URL for clients")
	flag.StringVar(&m.peer, "peer", "", "URL for peers to listen on")
	flag.StringVar(&m.advertise, "advertise", "", "URL by which peers come")
	flag.StringVar(&m.cluster, "cluster", "", "all members: NAME=URL,...")
	flag.StringVar(&m.tls, "tls", "", "folder of ca.pem, cert.pem and key.pem")
	flag.Int64Var(&m.quota, "quota", 0, "bytes; etcd's own when 0")
	flag.Parse()
	if err := m.run(); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
}

type member struct {
	name, dir, client, peer, advertise, cluster, tls string
	quota                                            int64
}

// The tuning that docs/serve.md recommends for members near each other.
const heartbeatMs, electionMs = 50, 500

func (m member) run() error {
	c, err := m.config()
	if err != nil {
		return err
	}
	etcd, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	defer etcd.Close()
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	select {
	case <-end:
		return nil
	case <-etcd.Server.StopNotify():
		return fmt.Errorf("stopped by itself")
	case err := <-etcd.Err():
		return err
	}
}

func (m member) config() (*embed.Config, error) {
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster, c.InitialClusterToken = m.name, m.dir, m.cluster, "exeat-test"
	c.TickMs, c.ElectionMs = heartbeatMs, electionMs
	c.LogLevel, c.LogOutputs = "fatal", []string{"stderr"}
	c.MaxRequestBytes, c.QuotaBackendBytes = 4<<20, m.quota
	for _, u := range []struct {
		to   *[]url.URL
		text string
	}{
		{&c.ListenClientUrls, m.client}, {&c.AdvertiseClientUrls, m.client}, {&c.ListenPeerUrls, m.peer}, {&c.AdvertisePeerUrls, m.advertise},
	} {
		parsed, err := url.Parse(u.text)
		if err != nil {
			return nil, err
		}
		*u.to = []url.URL{*parsed}
	}
	info := transport.TLSInfo{
		CertFile: m.tls + "/cert.pem", KeyFile: m.tls + "/key.pem", TrustedCAFile: m.tls + "/ca.pem", ClientCertAuth: true,
	}
	c.ClientTLSInfo, c.PeerTLSInfo = info, info
	return c, nil
}
