package async

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"lambda_microservice.platform/images/openfaas/internal/functions"
	"lambda_microservice.platform/images/openfaas/internal/proxy"
)

// A Worker takes calls out of the queue and makes them through the gateway, which knows all kinds of functions.
type Worker struct {
	Store     *Store
	Gateway   *url.URL
	Transport http.RoundTripper
	Callbacks *Callbacks
	// Concurrency is how many calls are under way here at most.
	Concurrency int
	// Margin is how much longer than the function's own limit a call may take, the gateway's margin included.
	Margin time.Duration
	// Patience is how long a call that cannot begin is tried again.
	Patience time.Duration
	Outcomes *prometheus.CounterVec

	places chan struct{}
	calls  sync.WaitGroup
}

// Run works until the context ends, and returns when the calls under way have ended.
func (w *Worker) Run(ctx context.Context) {
	w.places = make(chan struct{}, w.Concurrency)
	select {
	case <-w.Store.ready:
	case <-ctx.Done():
		return
	}
	var takers sync.WaitGroup
	for lane := range lanes {
		takers.Go(func() { w.takeFrom(ctx, lane) })
	}
	takers.Wait()
	w.calls.Wait()
}

// takeFrom has one call of its lane wait for a place at most. Who waits longest gets the next place, so lanes take turns
// however many calls one of them has.
func (w *Worker) takeFrom(ctx context.Context, lane int) {
	pause := func() {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	for ctx.Err() == nil {
		consumer, err := w.Store.jet.Consumer(ctx, streamCalls, laneName(lane))
		if err != nil {
			if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
				_ = w.Store.make(ctx)
			}
			pause()
			continue
		}
		for ctx.Err() == nil {
			message, err := next(ctx, consumer)
			if err != nil {
				if !errors.Is(err, jetstream.ErrNoMessages) && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, context.DeadlineExceeded) {
					pause()
					break // NATS was away, or is another: the consumer is looked up again
				}
				continue
			}
			silent := w.hold(message)
			select {
			case w.places <- struct{}{}:
			case <-ctx.Done():
				silent()
				_ = message.Nak()
				return
			}
			w.calls.Go(func() {
				defer func() { <-w.places; silent() }()
				// Not the taker's context: at the end calls under way are waited for.
				w.handle(context.WithoutCancel(ctx), message)
			})
		}
	}
}

// next waits for a lane's next message. Each question costs the servers something, so an idle lane does not ask often.
func next(ctx context.Context, consumer jetstream.Consumer) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return consumer.Next(jetstream.FetchContext(ctx))
}

// hold tells the server that the message is being worked on, until it is called.
func (w *Worker) hold(message jetstream.Msg) func() {
	done := make(chan struct{})
	go func() {
		for tick := time.NewTicker(w.Store.AckWait / 3); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				_ = message.InProgress()
			}
		}
	}()
	return sync.OnceFunc(func() { close(done) })
}

// handle makes one call, or finds out what has become of it.
func (w *Worker) handle(ctx context.Context, message jetstream.Msg) {
	var call Call
	if err := json.Unmarshal(message.Data(), &call); err != nil || !callID.MatchString(call.ID) {
		slog.Error("a message of the queue is no call; it is dropped", "error", err)
		_ = message.TermWithReason("no call")
		return
	}
	state, revision, err := w.Store.get(ctx, call.ID)
	if err != nil {
		w.later(message, time.Second)
		return
	}
	if state == nil {
		state = &State{CallID: call.ID, Function: call.Function, State: Queued, Queued: call.Accepted, Owner: call.Owner}
	}
	policy := policyOf(call.Annotations)
	switch state.State {
	case Done: // and told, or whoever ended it was lost before it could tell
		w.deliver(ctx, &call, state, revision)
		w.ack(message)
		return
	case Dead:
		w.bury(ctx, message, &call, state.Reason)
		return
	case Running:
		// Somebody made the call and has not told. As long as that may still come, it is waited for.
		if wait := time.Until(state.Until); wait > 0 {
			w.later(message, wait+100*time.Millisecond)
			return
		}
		if state.Attempts >= policy.attempts {
			w.die(ctx, message, &call, state, revision, "the worker that made the call was lost; the function may have run")
			return
		}
	}

	release, ok := w.slot(ctx, &call)
	if !ok {
		delivered := uint64(1)
		if metadata, err := message.Metadata(); err == nil {
			delivered = metadata.NumDelivered
		}
		// The longer a call has waited the less often it asks, so that thousands that wait cost little.
		w.later(message, min(time.Duration(delivered)*50*time.Millisecond, 3*time.Second))
		return
	}
	defer release()

	limit := time.Duration(call.TimeoutSeconds*float64(time.Second)) + w.Margin
	began := time.Now().UTC()
	state.State, state.Started, state.Attempts, state.Until = Running, &began, state.Attempts+1, began.Add(limit+2*time.Second)
	if revision, err = w.Store.put(ctx, state, revision); err != nil {
		w.later(message, time.Second) // another worker has it, or NATS is away: nothing ran here
		return
	}
	answer, notStarted, err := w.call(ctx, &call, limit)
	ended := time.Now().UTC()

	if notStarted {
		state.Attempts--
		if time.Since(call.Accepted) > w.Patience {
			w.die(ctx, message, &call, state, revision, "the function could not be called in "+w.Patience.String()+": "+answer.summary(err))
			return
		}
		w.again(ctx, message, state, revision, min(time.Second+time.Since(call.Accepted)/4, 30*time.Second))
		return
	}
	failed := err != nil || slices.Contains(policy.codes, answer.status)
	if failed && state.Attempts < policy.attempts {
		w.again(ctx, message, state, revision, policy.wait(state.Attempts))
		return
	}
	if failed && policy.attempts > 1 {
		w.die(ctx, message, &call, state, revision, fmt.Sprintf("%d attempts failed, the last one: %s", state.Attempts, answer.summary(err)))
		return
	}
	state.State, state.Finished, state.Until = Done, &ended, time.Time{}
	state.Status, state.Header, state.Body = answer.status, answer.header, answer.body
	if err != nil {
		state.Status, state.Reason = http.StatusBadGateway, "the call broke off, the function may have run: "+err.Error()
	} else if answer.tooLarge {
		state.Reason = fmt.Sprintf("the result has more than %d bytes and is not kept", maxResult)
	}
	if revision, ok = w.insist(ctx, state, revision); !ok {
		return // told by somebody else; the message comes again and finds it
	}
	w.Outcomes.WithLabelValues("done").Inc()
	w.deliver(ctx, &call, state, revision)
	w.ack(message)
}

// insist writes a state until NATS takes it: what it tells is known nowhere else.
func (w *Worker) insist(ctx context.Context, state *State, revision uint64) (uint64, bool) {
	for began := time.Now(); time.Since(began) < keepResult; {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		written, err := w.Store.put(attempt, state, revision)
		cancel()
		if err == nil {
			return written, true
		}
		if errors.Is(err, errChanged) {
			// Perhaps by this write, whose confirmation was lost.
			now, at, err := w.Store.get(ctx, state.CallID)
			if err != nil {
				continue
			}
			if now == nil {
				revision = 0
				continue
			}
			same := now.State == state.State && now.Attempts == state.Attempts && (now.Finished == nil) == (state.Finished == nil)
			return at, same
		}
		time.Sleep(300 * time.Millisecond)
	}
	return 0, false
}

// again puts a call back for another attempt.
func (w *Worker) again(ctx context.Context, message jetstream.Msg, state *State, revision uint64, wait time.Duration) {
	state.State, state.Until = Queued, time.Time{}
	if _, ok := w.insist(ctx, state, revision); ok {
		w.Outcomes.WithLabelValues("again").Inc()
		w.later(message, wait)
	}
}

func (w *Worker) later(message jetstream.Msg, wait time.Duration) {
	// Where this is not heard, the server gives the message to somebody after AckWait.
	_ = message.NakWithDelay(wait)
}

// ack until it is heard, or the message comes again and is found to be done.
func (w *Worker) ack(message jetstream.Msg) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = message.DoubleAck(ctx)
}

// die makes a call a dead letter.
func (w *Worker) die(ctx context.Context, message jetstream.Msg, call *Call, state *State, revision uint64, reason string) {
	ended := time.Now().UTC()
	state.State, state.Reason, state.Finished, state.Until = Dead, reason, &ended, time.Time{}
	if _, ok := w.insist(ctx, state, revision); ok {
		w.bury(ctx, message, call, reason)
	}
}

// bury stores the dead letter once, and only then lets go of the message.
func (w *Worker) bury(ctx context.Context, message jetstream.Msg, call *Call, reason string) {
	data, err := json.Marshal(deadMessage{*call, reason})
	if err == nil {
		id := "dead." + call.ID
		if metadata, err := message.Metadata(); err == nil {
			id += "." + strconv.FormatUint(metadata.Sequence.Stream, 10)
		}
		_, err = w.Store.jet.Publish(ctx, "openfaas.dead."+call.ID, data, jetstream.WithMsgID(id))
	}
	if err != nil {
		w.later(message, time.Second)
		return
	}
	w.Outcomes.WithLabelValues("dead").Inc()
	slog.Warn("a call is among the dead letters", "call_id", call.ID, "function", call.Function, "reason", reason)
	w.ack(message)
}

// slot takes one of the places that a function has over all workers. A place is an entry that ends by itself where it is
// not renewed, so a worker that is lost takes none with it.
func (w *Worker) slot(ctx context.Context, call *Call) (release func(), ok bool) {
	most, err := strconv.Atoi(call.Annotations[functions.MaxInflight])
	if err != nil || most < 1 {
		return func() {}, true
	}
	for _, n := range rand.Perm(most) {
		key := strings.ReplaceAll(call.Function, ".", "-") + "." + strconv.Itoa(n)
		revision, err := w.Store.slots.Create(ctx, key, []byte(call.ID))
		if err != nil {
			if errors.Is(err, jetstream.ErrKeyExists) {
				continue
			}
			return nil, false
		}
		done, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for tick := time.NewTicker(w.Store.AckWait / 4); ; {
				select {
				case <-done:
					tick.Stop()
					return
				case <-tick.C:
					if next, err := w.Store.slots.Update(ctx, key, []byte(call.ID), revision); err == nil {
						revision = next
					}
				}
			}
		}()
		return func() {
			close(done)
			<-ended
			_ = w.Store.slots.Delete(ctx, key, jetstream.LastRevision(revision))
		}, true
	}
	return nil, false
}

type answered struct {
	status   int
	header   http.Header
	body     []byte
	tooLarge bool
}

func (a answered) summary(err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("status %d, %.200s", a.status, bytes.TrimSpace(a.body))
}

// call makes the call once. notStarted means that the function has not begun: there was no connection to the gateway, or
// the gateway says so.
func (w *Worker) call(ctx context.Context, call *Call, limit time.Duration) (answer answered, notStarted bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	address, err := w.Gateway.Parse("/function/" + call.Function + call.Path)
	if err != nil {
		return answer, false, err
	}
	address.RawQuery = call.QueryString
	request, err := http.NewRequestWithContext(ctx, call.Method, address.String(), bytes.NewReader(call.Body))
	if err != nil {
		return answer, false, err
	}
	request.Header = call.Header.Clone()
	if request.Header == nil {
		request.Header = http.Header{}
	}
	request.Header.Set("X-Call-Id", call.ID)
	setDefault(request.Header, "X-Forwarded-Host", call.Host)
	response, err := proxy.SentOnce(w.Transport).RoundTrip(request)
	if err != nil {
		return answer, proxy.NeverSent(err), err
	}
	defer response.Body.Close()
	// One more than is kept shows what is too large; the callback gets no half of a result either.
	answer.status, answer.header = response.StatusCode, response.Header
	if answer.body, err = io.ReadAll(io.LimitReader(response.Body, maxResult+1)); err != nil {
		return answer, false, err
	}
	if len(answer.body) > maxResult {
		answer.body, answer.tooLarge = nil, true
	}
	notStarted = response.Header.Get(functions.NotStarted) == "true" && (answer.status == http.StatusServiceUnavailable || answer.status == http.StatusTooManyRequests)
	answer.header.Del(functions.NotStarted)
	return answer, notStarted, nil
}

func setDefault(header http.Header, name, value string) {
	if header.Get(name) == "" && value != "" {
		header.Set(name, value)
	}
}

// deliver posts the result where the caller wanted it, and notes how that went.
func (w *Worker) deliver(ctx context.Context, call *Call, state *State, revision uint64) {
	if call.CallbackURL == nil || state.Callback != "" {
		return
	}
	header := http.Header{}
	for name, values := range state.Header {
		if name == "Content-Type" || name == "Content-Encoding" || name == "Traceparent" || strings.HasPrefix(name, "X-") {
			header[name] = values
		}
	}
	name, _, _ := strings.Cut(call.Function, ".")
	header.Set("X-Call-Id", call.ID)
	header.Set("X-Function-Name", name)
	header.Set("X-Function-Status", strconv.Itoa(state.Status))
	if state.Started != nil && state.Finished != nil {
		header.Set("X-Duration-Seconds", strconv.FormatFloat(state.Finished.Sub(*state.Started).Seconds(), 'f', 6, 64))
	}
	state.Callback = "delivered"
	if err := w.Callbacks.send(ctx, call.CallbackURL, header, state.Body); err != nil {
		state.Callback = "failed: " + err.Error()
		w.Outcomes.WithLabelValues("callback_failed").Inc()
	}
	w.insist(ctx, state, revision)
}

// A policy says how often a call is made. Without annotations that is once, whatever comes of it.
type policy struct {
	attempts         int
	codes            []int
	minWait, maxWait time.Duration
}

func policyOf(annotations map[string]string) policy {
	p := policy{attempts: 1, minWait: time.Second, maxWait: 30 * time.Second}
	attempts, err := strconv.Atoi(annotations[functions.RetryAttempts])
	if err != nil || attempts < 2 {
		return p
	}
	p.attempts = min(attempts, 100)
	p.codes = []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}
	if text := annotations[functions.RetryCodes]; text != "" {
		p.codes = nil
		for part := range strings.SplitSeq(text, ",") {
			if code, err := strconv.Atoi(strings.TrimSpace(part)); err == nil {
				p.codes = append(p.codes, code)
			}
		}
	}
	if wait, err := time.ParseDuration(annotations[functions.RetryMinWait]); err == nil && wait > 0 {
		p.minWait = wait
	}
	if wait, err := time.ParseDuration(annotations[functions.RetryMaxWait]); err == nil && wait > 0 {
		p.maxWait = wait
	}
	return p
}

// wait doubles from the shortest to the longest.
func (p policy) wait(attempts int) time.Duration {
	return min(p.minWait<<min(attempts-1, 20), p.maxWait)
}
