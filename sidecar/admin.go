package sidecar

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
)

// The paths that Envoy's admin answers, query included.
const (
	adminReady     = "/ready"
	adminListeners = "/listeners?format=json"
	adminConnected = "/stats?filter=control_plane.connected_state"
	adminMetrics   = "/stats/prometheus"
)

// admin asks Envoy's admin, which is on a Unix socket alone.
type admin struct{ client *http.Client }

func newAdmin(dir string) admin {
	path := filepath.Join(dir, adminSocket)
	return admin{&http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // Envoy comes and goes; so do its connections
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

func (a admin) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the admin of Envoy answered %d", resp.StatusCode)
	}
	return body, nil
}

// ports are where the two listeners are.
type ports struct{ egress, api listenAddress }

// ready fails with what is still missing: Envoy is LIVE once its first
// configuration, the egress route table included, is in force.
func (a admin) ready(ctx context.Context) (ports, error) {
	state, err := a.get(ctx, adminReady)
	if err != nil || strings.TrimSpace(string(state)) != "LIVE" {
		return ports{}, errNotLive
	}
	connected, err := a.get(ctx, adminConnected)
	if err != nil || strings.TrimSpace(string(connected)) != "control_plane.connected_state: 1" {
		return ports{}, errNotConnected
	}
	return a.ports(ctx)
}

func (a admin) ports(ctx context.Context) (ports, error) {
	body, err := a.get(ctx, adminListeners)
	if err != nil {
		return ports{}, err
	}
	found, err := parseListeners(body)
	if err != nil {
		return ports{}, err
	}
	egress, ok := found[listenerEgress]
	api, ok2 := found[listenerAPI]
	if !ok || !ok2 {
		return ports{}, errNotLive
	}
	return ports{egress: egress, api: api}, nil
}

// parseListeners reads envoy.admin.v3.Listeners, of which only listeners with a
// port count here.
func parseListeners(body []byte) (map[string]listenAddress, error) {
	var list struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    uint32 `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("the listeners of Envoy cannot be read: %w", err)
	}
	out := map[string]listenAddress{}
	for _, l := range list.Statuses {
		if ip := net.ParseIP(l.Address.Socket.Address); ip != nil && l.Address.Socket.Port != 0 {
			out[l.Name] = listenAddress{ip: ip, port: l.Address.Socket.Port}
		}
	}
	return out, nil
}

func (l listenAddress) String() string {
	return net.JoinHostPort(l.ip.String(), strconv.Itoa(int(l.port)))
}
