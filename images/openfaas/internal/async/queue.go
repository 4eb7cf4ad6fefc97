package async

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/openfaas/faas-provider/types"

	"lambda_microservice.platform/images/openfaas/internal/functions"
	"lambda_microservice.platform/images/openfaas/internal/metrics"
	"lambda_microservice.platform/images/openfaas/internal/proxy"
)

// storeTimeout is how long the gateway waits for a call to be stored.
const storeTimeout = 5 * time.Second

func readSecret(file string) string {
	content, err := os.ReadFile(file)
	if err != nil {
		slog.Error("cannot read NATS' password", "file", file, "error", err)
	}
	return strings.TrimSpace(string(content))
}

func logWarn(message string, arguments ...any) { slog.Warn(message, arguments...) }

// A Queue is the gateway's side: it accepts calls and tells what became of them.
type Queue struct {
	Store     *Store
	Target    func(ctx context.Context, qualified, user string) (*functions.Target, error)
	Callbacks *Callbacks
	Calls     *metrics.Calls
}

// ServeHTTP takes /async-function/NAME[/PATH], and tells at GET /async-function/CALL_ID what became of a call.
func (q *Queue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, path := proxy.Split(r.URL.EscapedPath(), "/async-function/")
	if r.Method == http.MethodGet && path == "" && callID.MatchString(name) {
		q.tell(w, r, name)
		return
	}
	id, err := q.accept(r, name, path)
	if id != "" {
		w.Header().Set("X-Call-Id", id)
	}
	if err != nil {
		if functions.StatusOf(err) == http.StatusServiceUnavailable {
			// What is wrong with a request is its caller's affair, and counted by nobody.
			q.Calls.Async.WithLabelValues("refused").Inc()
			w.Header().Set("Retry-After", "2")
		}
		proxy.Refuse(w, err)
		return
	}
	q.Calls.Async.WithLabelValues("accepted").Inc()
	w.WriteHeader(http.StatusAccepted)
}

func (q *Queue) accept(r *http.Request, name, path string) (string, error) {
	if err := proxy.ErrName(name); err != nil {
		return "", err
	}
	callback, err := q.callback(r.Header.Get("X-Callback-Url"))
	if err != nil {
		return "", err
	}
	target, err := q.Target(r.Context(), name, r.Header.Get("X-User-Id"))
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err != nil {
		return "", functions.Refuse(http.StatusBadRequest, "the body cannot be read: %s", err)
	}
	if len(body) > MaxBody {
		return "", functions.Refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes, which is the most for an asynchronous call", MaxBody)
	}
	if !q.Store.Ready() {
		return "", functions.Refuse(http.StatusServiceUnavailable, "the queue is away; the call was not accepted")
	}
	header := r.Header.Clone()
	for _, own := range []string{"X-Callback-Url", "X-Call-Id", "Authorization", "Connection", "Upgrade", "Transfer-Encoding", "Keep-Alive", "Te", "Trailer", "Content-Length"} {
		header.Del(own)
	}
	if header.Get("X-Forwarded-For") == "" {
		header.Set("X-Forwarded-For", strings.Trim(r.RemoteAddr[:strings.LastIndexByte(r.RemoteAddr, ':')], "[]"))
	}
	call := &Call{
		QueueRequest: types.QueueRequest{
			Header: header, Host: r.Host, Body: body, Method: r.Method, Path: path, QueryString: r.URL.RawQuery,
			Function: target.Label(), Annotations: target.Annotations, CallbackURL: callback,
		},
		ID: proxy.NewID(), Owner: header.Get("X-User-Id"), Account: proxy.Account(header), Accepted: time.Now().UTC(),
		TimeoutSeconds: target.Timeout.Seconds(),
	}
	if err := q.enqueue(r.Context(), call, call.ID); err != nil {
		return call.ID, err
	}
	return call.ID, nil
}

func (q *Queue) enqueue(ctx context.Context, call *Call, messageID string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := q.Store.publish(ctx, call, messageID); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return functions.Refuse(http.StatusServiceUnavailable, "the queue did not confirm the call in time; it is not accepted, but may run")
		}
		return functions.Refuse(http.StatusServiceUnavailable, "the queue does not take the call, which is not accepted: %s", err)
	}
	// Stored, so it will run whatever happens to this entry. A worker may have been quicker to make it.
	state := &State{CallID: call.ID, Function: call.Function, State: Queued, Queued: call.Accepted, Owner: call.Owner}
	if _, err := q.Store.put(ctx, state, 0); err != nil && !errors.Is(err, errChanged) {
		slog.Warn("a call's state could not be written", "call_id", call.ID, "error", err)
	}
	return nil
}

func (q *Queue) callback(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	address, err := url.Parse(text)
	if err == nil {
		err = q.Callbacks.Allow(address)
	}
	if err != nil {
		return nil, functions.Refuse(http.StatusBadRequest, "X-Callback-Url is refused: %s", err)
	}
	return address, nil
}

// tell answers with the state. A user's call is nobody else's to see.
func (q *Queue) tell(w http.ResponseWriter, r *http.Request, id string) {
	if !q.Store.Ready() {
		proxy.Refuse(w, functions.Refuse(http.StatusServiceUnavailable, "the queue is away"))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	state, _, err := q.Store.get(ctx, id)
	if err != nil {
		proxy.Refuse(w, functions.Refuse(http.StatusServiceUnavailable, "the queue does not answer: %s", err))
		return
	}
	if state == nil || state.Owner != "" && state.Owner != r.Header.Get("X-User-Id") {
		proxy.Refuse(w, functions.Refuse(http.StatusNotFound, "there is no call %s, or it ended more than an hour ago", id))
		return
	}
	state.Owner, state.Until = "", time.Time{}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(state)
}

// Cron stores one run of a schedule. Every gateway calls it; the server keeps the first.
func (q *Queue) Cron(ctx context.Context, target *functions.Target, at time.Time) error {
	if !q.Store.Ready() {
		return functions.Refuse(http.StatusServiceUnavailable, "the queue is away")
	}
	messageID := "cron." + target.Label() + "." + at.UTC().Format(time.RFC3339)
	call := &Call{
		QueueRequest: types.QueueRequest{
			Header: http.Header{"X-Topic": {"cron-function"}}, Method: http.MethodPost, Function: target.Label(), Annotations: target.Annotations,
		},
		ID: proxy.NewID(), Account: "cron " + target.Label(), Accepted: time.Now().UTC(), TimeoutSeconds: target.Timeout.Seconds(),
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return q.Store.publish(ctx, call, messageID)
}

// A DeadLetter is a call that came to nothing.
type DeadLetter struct {
	CallID   string    `json:"call_id"`
	Function string    `json:"function"`
	Reason   string    `json:"reason"`
	Accepted time.Time `json:"accepted_at"`
	Died     time.Time `json:"died_at"`
}

type deadMessage struct {
	Call   Call   `json:"call"`
	Reason string `json:"reason"`
}

// maxListed bounds an answer; who has more dead letters than that sends or removes some first.
const maxListed = 1000

// DeadLetters lists them, the oldest first.
func (q *Queue) DeadLetters(ctx context.Context) ([]DeadLetter, error) {
	all := []DeadLetter{}
	stream, err := q.Store.jet.Stream(ctx, streamDead)
	if err != nil {
		return nil, away(err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter("openfaas.dead.*"))
	if err != nil {
		return nil, away(err)
	}
	for sequence := info.State.FirstSeq; sequence > 0 && sequence <= info.State.LastSeq && len(all) < maxListed; sequence++ {
		message, err := stream.GetMsg(ctx, sequence)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, away(err)
		}
		var dead deadMessage
		if err := json.Unmarshal(message.Data, &dead); err != nil {
			return nil, err
		}
		all = append(all, DeadLetter{CallID: dead.Call.ID, Function: dead.Call.Function, Reason: dead.Reason, Accepted: dead.Call.Accepted, Died: message.Time})
	}
	return all, nil
}

func away(err error) error {
	return functions.Refuse(http.StatusServiceUnavailable, "the queue does not answer: %s", err)
}

// Dead takes a dead letter out, and sends its call again where that is wanted.
func (q *Queue) Dead(ctx context.Context, id string, again bool) error {
	stream, err := q.Store.jet.Stream(ctx, streamDead)
	if err != nil {
		return away(err)
	}
	message, err := stream.GetLastMsgForSubject(ctx, "openfaas.dead."+id)
	if errors.Is(err, jetstream.ErrMsgNotFound) || !callID.MatchString(id) {
		return functions.Refuse(http.StatusNotFound, "there is no dead letter %s", id)
	}
	if err != nil {
		return away(err)
	}
	if again {
		var dead deadMessage
		if err := json.NewDecoder(bytes.NewReader(message.Data)).Decode(&dead); err != nil {
			return err
		}
		// First the state, without which a worker would take the call for one that has ended. A death has its message ID,
		// so that sending twice at once stores one call.
		if err := q.requeue(ctx, &dead.Call); err != nil {
			return away(err)
		}
		if err := q.enqueue(ctx, &dead.Call, "again."+id+"."+message.Time.UTC().Format(time.RFC3339Nano)); err != nil {
			return err
		}
	}
	if err := stream.DeleteMsg(ctx, message.Sequence); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return away(err)
	}
	return nil
}

func (q *Queue) requeue(ctx context.Context, call *Call) error {
	_, revision, err := q.Store.get(ctx, call.ID)
	if err != nil || revision == 0 {
		return err
	}
	_, err = q.Store.put(ctx, &State{CallID: call.ID, Function: call.Function, State: Queued, Queued: call.Accepted, Owner: call.Owner}, revision)
	return err
}
