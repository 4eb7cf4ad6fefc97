// The load of a drill: vegeta, with three more URL schemes. A target redis://... is a write to Redis, postgresql://... a
// commit to PostgreSQL, openfaas://... an asynchronous call through a gateway for functions; the sequence number that vegeta gives each request is what is written, so that its results, one
// record a request, say which writes were acknowledged and when.
//
//	load attack [flags] TARGET...   send until SIGINT; a line of progress a second on standard output
//	load stored [flags] TARGET      print the sequence numbers that the store holds
//	load forget [flags] TARGET      remove them
//
// A target is a JSON object in vegeta's own form ({"method": "GET", "url": "https://...", "header": {...}, "body":
// base64}), or @FILE with one a line.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// A store is what a URL scheme stands for: each request to it is one write.
type store interface {
	// ready makes what the writes need and waits for the store.
	ready(ctx context.Context) error
	// write stores a sequence number and returns once it is acknowledged.
	write(ctx context.Context, run, seq string) error
	// stored calls found for every number below count that is in the store.
	stored(ctx context.Context, run string, count uint64, found func(seq uint64)) error
	forget(ctx context.Context, run string, count uint64) error
}

type options struct {
	run         string
	count       uint64
	rate        int
	timeout     time.Duration
	output      string
	rootCerts   string
	credentials string
	confirm     int
	hold        bool
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: load attack|stored|forget [flags] TARGET")
	}
	var o options
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&o.run, "name", "load", "name of the run; a store keeps the numbers of each run apart")
	flags.Uint64Var(&o.count, "count", 0, "stored, forget: how many numbers were sent")
	flags.IntVar(&o.rate, "rate", 50, "requests a second, sent whether earlier ones were answered or not")
	flags.DurationVar(&o.timeout, "timeout", 3*time.Second, "after this a request has failed")
	flags.StringVar(&o.output, "output", "results.csv", "file for the results, in vegeta's CSV form")
	flags.StringVar(&o.rootCerts, "root-certs", "", "PEM file of the authorities to trust; the system's if empty")
	flags.StringVar(&o.credentials, "credentials", "", "folder with the files username and password of the store")
	flags.IntVar(&o.confirm, "confirm-replicas", 1, "Redis: replicas that must have a write before it counts as acknowledged")
	flags.BoolVar(&o.hold, "hold", false, "after the attack, stay until SIGTERM, so that a pod's results can be read")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	targets, err := parseTargets(flags.Args())
	if err != nil {
		return err
	}
	stores, err := storesOf(targets, o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if args[0] == "attack" {
		return attack(ctx, o, targets, stores)
	}
	if len(targets) != 1 || len(stores) != 1 {
		return errors.New(args[0] + " wants one target, a store")
	}
	for _, s := range stores {
		switch args[0] {
		case "stored":
			out := bufio.NewWriter(os.Stdout)
			if err := s.stored(ctx, o.run, o.count, func(seq uint64) { fmt.Fprintln(out, seq) }); err != nil {
				return err
			}
			return out.Flush()
		case "forget":
			return s.forget(ctx, o.run, o.count)
		}
	}
	return fmt.Errorf("unknown command %q", args[0])
}

func parseTargets(args []string) ([]vegeta.Target, error) {
	var lines strings.Builder
	for _, arg := range args {
		if file, isFile := strings.CutPrefix(arg, "@"); isFile {
			content, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			arg = strings.TrimRight(string(content), "\n")
		}
		lines.WriteString(arg + "\n")
	}
	targets, err := vegeta.ReadAllTargets(vegeta.NewJSONTargeter(strings.NewReader(lines.String()), nil, nil))
	if err != nil {
		return nil, fmt.Errorf("targets: %w", err)
	}
	return targets, nil
}

// storesOf connects the stores that the targets name, by their scheme.
func storesOf(targets []vegeta.Target, o options) (map[string]store, error) {
	stores := map[string]store{}
	for _, target := range targets {
		address, err := url.Parse(target.URL)
		if err != nil {
			return nil, err
		}
		if stores[address.Scheme] != nil {
			continue
		}
		switch address.Scheme {
		case "redis", "rediss":
			stores[address.Scheme], err = newRedis(address, o)
		case "postgresql":
			stores[address.Scheme], err = newPostgresql(target.URL, o)
		case "openfaas":
			stores[address.Scheme], err = newCalls(address, o)
		}
		if err != nil {
			return nil, err
		}
	}
	return stores, nil
}

func attack(ctx context.Context, o options, targets []vegeta.Target, stores map[string]store) error {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)

	transport, err := httpTransport(o)
	if err != nil {
		return err
	}
	for scheme, s := range stores {
		limited, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := s.ready(limited)
		cancel()
		if err != nil {
			return fmt.Errorf("%s is not ready: %w", scheme, err)
		}
		transport.RegisterProtocol(scheme, writes{s})
	}
	output, err := os.OpenFile(o.output, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(output)
	encode := vegeta.NewCSVEncoder(buffered)

	attacker := vegeta.NewAttacker(
		vegeta.Client(&http.Client{
			Transport: transport,
			Timeout:   o.timeout,
			// An answer is what the server said first.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}),
		vegeta.MaxBody(4096),
	)
	// The attacker waits for every result to be taken, so they are taken whatever else happens here.
	results := attacker.Attack(
		vegeta.NewStaticTargeter(targets...), vegeta.Rate{Freq: o.rate, Per: time.Second}, 0, o.run)
	seconds := time.NewTicker(time.Second)
	defer seconds.Stop()
	var p progress
	ending := os.Signal(nil)
	for open := true; open; {
		select {
		case result, more := <-results:
			if open = more; !more {
				break
			}
			p.count(result)
			result.Headers = nil
			if err := encode.Encode(result); err != nil {
				return err
			}
		case <-seconds.C:
			p.print(false)
		case ending = <-stop:
			attacker.Stop()
		}
	}
	if err := errors.Join(buffered.Flush(), output.Close()); err != nil {
		return err
	}
	p.print(true)
	for o.hold && ending != syscall.SIGTERM {
		ending = <-stop
	}
	return nil
}

type progress struct {
	At           float64 `json:"at"`
	Acknowledged uint64  `json:"acknowledged"`
	Failed       uint64  `json:"failed"`
	LastError    string  `json:"last_error,omitempty"`
	Done         bool    `json:"done,omitempty"`
}

func (p *progress) count(result *vegeta.Result) {
	if result.Error == "" {
		p.Acknowledged++
	} else {
		p.Failed++
		p.LastError = result.Error
	}
}

func (p *progress) print(done bool) {
	p.At, p.Done = float64(time.Now().UnixMicro())/1e6, done
	line, _ := json.Marshal(p)
	fmt.Println(string(line))
	p.LastError = ""
}

func httpTransport(o options) (*http.Transport, error) {
	configuration := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.rootCerts != "" {
		roots, err := authorities(o.rootCerts)
		if err != nil {
			return nil, err
		}
		configuration.RootCAs = roots
	}
	// HTTP/1.1: one connection of HTTP/2 would carry the whole load to a single replica of the edge.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     configuration,
		TLSHandshakeTimeout: 2 * time.Second,
		MaxIdleConnsPerHost: 1000,
		Protocols:           protocols,
	}, nil
}

// writes lets a store take vegeta's requests.
type writes struct{ store }

func (w writes) RoundTrip(request *http.Request) (*http.Response, error) {
	header := request.Header
	if err := w.write(request.Context(), header.Get("X-Vegeta-Attack"), header.Get("X-Vegeta-Seq")); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, Header: http.Header{}, Body: http.NoBody, Request: request,
	}, nil
}

// authorities reads the certificates in PEM that a server is checked with.
func authorities(file string) (*x509.CertPool, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("%s: no certificate in PEM", file)
	}
	return pool, nil
}

// credentials reads what a mounted Secret holds; empty without one.
func credentials(folder string) (username, password string, err error) {
	if folder == "" {
		return "", "", nil
	}
	var read [2]string
	for i, name := range []string{"username", "password"} {
		content, err := os.ReadFile(folder + "/" + name)
		if err != nil {
			return "", "", err
		}
		read[i] = strings.TrimSpace(string(content))
	}
	return read[0], read[1], nil
}
