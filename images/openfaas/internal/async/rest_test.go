package async

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"lambda_microservice.platform/images/openfaas/internal/metrics"
)

// What three servers, two gateways and two workers cost that have nothing to do, all in this process:
// go test -run '^$' -bench AtRest -benchtime 1x ./internal/async [-cpuprofile FILE]. No bound is asserted, as other work
// of the machine would decide.
func BenchmarkAtRest(b *testing.B) {
	var servers []*server.Server
	var routes []*url.URL
	var addresses []string
	ports := make([]int, 3)
	for n := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		ports[n] = listener.Addr().(*net.TCPAddr).Port
		routes = append(routes, &url.URL{Scheme: "nats", Host: listener.Addr().String()})
		_ = listener.Close()
	}
	for n, port := range ports {
		one, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("nats-", n), Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: b.TempDir(), NoLog: true, NoSigs: true,
			MaxPayload: maxMessage, Cluster: server.ClusterOpts{Name: "openfaas", Host: "127.0.0.1", Port: port}, Routes: routes,
		})
		if err != nil {
			b.Fatal(err)
		}
		go one.Start()
		defer one.Shutdown()
		servers = append(servers, one)
	}
	for _, one := range servers {
		if !one.ReadyForConnections(time.Minute) {
			b.Fatal("NATS does not start")
		}
		addresses = append(addresses, one.ClientURL())
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	for n := range 4 {
		store, err := Connect(ctx, Options{URL: strings.Join(addresses, ","), Replicas: 3, AckWait: 30 * time.Second}, nil)
		if err != nil {
			b.Fatal(err)
		}
		defer store.Close()
		select {
		case <-store.ready:
		case <-time.After(2 * time.Minute):
			b.Fatal("NATS is not ready")
		}
		if n >= 2 {
			worker := &Worker{Store: store, Gateway: parsed("http://127.0.0.1:1"), Concurrency: 64, Outcomes: metrics.New().Async}
			go worker.Run(ctx)
		}
	}
	time.Sleep(10 * time.Second)
	rest := 60 * time.Second
	if text := os.Getenv("REST"); text != "" {
		rest, _ = time.ParseDuration(text)
	}
	for b.Loop() {
		began, used := time.Now(), processor()
		time.Sleep(rest)
		b.ReportMetric(1000*(processor()-used).Seconds()/time.Since(began).Seconds(), "m-of-CPU")
	}
}

func processor() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
