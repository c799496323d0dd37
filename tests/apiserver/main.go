// Command apiserver runs the upstream Kubernetes API server with an embedded etcd as one process, for tests.
//
// Arguments are those of kube-apiserver; `--etcd-dir DIR` comes first and names the data directory.
package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) < 3 || os.Args[1] != "--etcd-dir" {
		fail(fmt.Errorf("usage: apiserver --etcd-dir DIR [kube-apiserver flags]"))
	}
	endpoint, err := startEtcd(os.Args[2])
	if err != nil {
		fail(err)
	}
	command := app.NewAPIServerCommand()
	command.SetArgs(append([]string{"--etcd-servers=" + endpoint}, os.Args[3:]...))
	os.Exit(cli.Run(command))
}

// startEtcd runs etcd on free loopback ports and returns the URL that clients use. Nothing is synced to disk: the data
// is worth nothing after the test.
func startEtcd(dir string) (string, error) {
	client, peer := freeURL(), freeURL()
	config := embed.NewConfig()
	config.Dir = dir
	config.UnsafeNoFsync = true
	config.LogLevel = "error"
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return "", err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return client.String(), nil
	case <-time.After(30 * time.Second):
		return "", fmt.Errorf("etcd was not ready after 30 s")
	}
}

func freeURL() url.URL {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	defer listener.Close()
	return url.URL{Scheme: "http", Host: listener.Addr().String()}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "apiserver:", err)
	os.Exit(1)
}
