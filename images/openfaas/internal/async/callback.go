package async

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"time"
)

var callID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Callbacks sends results to whom the inventory allows. A name may lead anywhere, so the address is looked at as well,
// where the connection is made: a name that leads elsewhere the second time comes no further.
type Callbacks struct {
	// Hosts are names, or *.NAME for all below it. Without any there are no callbacks.
	Hosts []string
	// Networks are private addresses that a name may lead to nevertheless.
	Networks []netip.Prefix
	client   *http.Client
}

// NewCallbacks follows no redirect and uses no proxy.
func NewCallbacks(hosts []string, networks []netip.Prefix) *Callbacks {
	c := &Callbacks{Hosts: hosts, Networks: networks}
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return c.allowAddress(at.Addr())
	}}
	c.client = &http.Client{
		Timeout:       15 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DialContext: dialer.DialContext, MaxIdleConns: 64, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 5 * time.Second},
	}
	return c
}

// Allow says why an address is none that results may be sent to.
func (c *Callbacks) Allow(address *url.URL) error {
	if address.Scheme != "https" && address.Scheme != "http" || address.Host == "" || address.User != nil {
		return fmt.Errorf("found %q, expected http(s)://HOST/PATH without a user", address.Redacted())
	}
	host := strings.TrimSuffix(strings.ToLower(address.Hostname()), ".")
	if at, err := netip.ParseAddr(host); err == nil {
		if err := c.allowAddress(at); err != nil {
			return err
		}
	}
	for _, allowed := range c.Hosts {
		if host == allowed || strings.HasPrefix(allowed, "*.") && strings.HasSuffix(host, allowed[1:]) {
			return nil
		}
	}
	return fmt.Errorf("the host %q is none of those that the inventory allows", host)
}

// Where no result goes, whatever the inventory allows: the cloud's metadata (link-local), and everybody.
func never(at netip.Addr) bool {
	return at.IsUnspecified() || at.IsLinkLocalUnicast() || at.IsMulticast() || at == netip.MustParseAddr("fd00:ec2::254")
}

var shared = []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("2002::/16")}

func (c *Callbacks) allowAddress(at netip.Addr) error {
	at = at.Unmap()
	if never(at) {
		return fmt.Errorf("%w: %s", errPrivate, at)
	}
	for _, network := range c.Networks {
		if network.Contains(at) {
			return nil
		}
	}
	private := at.IsLoopback() || at.IsPrivate()
	for _, network := range shared {
		private = private || network.Contains(at)
	}
	if private {
		return fmt.Errorf("%w: %s", errPrivate, at)
	}
	return nil
}

var errPrivate = errors.New("the address is not a public one")

// send delivers a result: up to four times where the receiver is away or fails.
func (c *Callbacks) send(ctx context.Context, to *url.URL, header http.Header, body []byte) error {
	if err := c.Allow(to); err != nil {
		return err
	}
	var last error
	for _, pause := range []time.Duration{0, time.Second, 4 * time.Second, 10 * time.Second} {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
		if err != nil {
			return err
		}
		request.Header = header.Clone()
		response, err := c.client.Do(request)
		if errors.Is(err, errPrivate) {
			return err
		}
		if err != nil {
			last = err
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode < 500 && response.StatusCode != http.StatusTooManyRequests {
			if response.StatusCode >= 300 {
				return fmt.Errorf("the receiver answers %d", response.StatusCode)
			}
			return nil
		}
		last = fmt.Errorf("the receiver answers %d", response.StatusCode)
	}
	return last
}
