// Package async accepts calls, keeps them in JetStream, and has them made one time each.
//
// A call is a message of a work queue. What has become of it is an entry in a bucket, and who begins the call has to
// write "running" over "queued" first, at the revision that it read: of two workers that were given one message, one can.
package async

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/openfaas/faas-provider/types"
)

const (
	streamCalls = "openfaas-calls"
	streamDead  = "openfaas-dead-letters"
	bucketState = "openfaas-call-states"
	bucketSlots = "openfaas-slots"

	// Lanes share the workers' places. A caller's calls are all in one lane, so whoever queues thousands holds up a
	// quarter of the others at most. Each is a consumer, whose replicas tell each other every second that they are there:
	// that is most of what a platform at rest costs. Callers are in one of more subjects, of which each lane has some, so
	// that the number of lanes can change under calls that wait.
	lanes    = 4
	subjects = 8

	// MaxBody is the most bytes of a call's body.
	MaxBody = 1 << 20
	// A message has the body in base64, and headers, which net/http bounds to a mebibyte but which are far smaller.
	maxMessage = 2 << 20
	keepResult = time.Hour
	keepDead   = 7 * 24 * time.Hour
	// A result beyond this is told by its size alone: NATS takes no larger message.
	maxResult = 1 << 20
)

// A Call is what is queued: the SDK's request, and what the gateway knew of its function and caller when it was accepted.
type Call struct {
	types.QueueRequest
	ID       string    `json:"CallId"`
	Owner    string    `json:"Owner,omitempty"` // the user, who alone may see the result
	Account  string    `json:"Account"`         // whose lane it is in
	Accepted time.Time `json:"Accepted"`
	// TimeoutSeconds is the function's own limit.
	TimeoutSeconds float64 `json:"TimeoutSeconds"`
}

// What a call's state can be.
const (
	Queued  = "queued"
	Running = "running"
	Done    = "done"
	Dead    = "dead" // among the dead letters
)

// A State is what has become of a call; it is kept for an hour from its last change.
type State struct {
	CallID   string      `json:"call_id"`
	Function string      `json:"function"`
	State    string      `json:"state"`
	Attempts int         `json:"attempts"`
	Queued   time.Time   `json:"queued_at"`
	Started  *time.Time  `json:"started_at,omitempty"`
	Finished *time.Time  `json:"finished_at,omitempty"`
	Status   int         `json:"status,omitempty"`
	Header   http.Header `json:"header,omitempty"`
	Body     []byte      `json:"body,omitempty"` // base64 in JSON
	Reason   string      `json:"reason,omitempty"`
	Callback string      `json:"callback,omitempty"`
	Owner    string      `json:"owner,omitempty"`
	// Until is when a running call has surely ended: whoever made it is gone if it has told nothing by then.
	Until time.Time `json:"until,omitzero"`
}

// Options of the connection and of what is stored.
type Options struct {
	URL, User, PasswordFile, CAFile string
	Replicas                        int
	// AckWait is how long a worker may be silent about a call that it was given.
	AckWait time.Duration
	// MaxBytes of all queued calls; 0 leaves it to the server.
	MaxBytes int64
}

// A Store is the connection to JetStream.
type Store struct {
	Options
	connection *nats.Conn
	jet        jetstream.JetStream
	ready      chan struct{}
	state      jetstream.KeyValue
	slots      jetstream.KeyValue
}

// Connect returns at once; the store is ready once NATS is there and has what is needed. It ends with the context.
func Connect(ctx context.Context, options Options, ready func()) (*Store, error) {
	s := &Store{Options: options, ready: make(chan struct{})}
	settings := []nats.Option{
		nats.Name("openfaas"), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond), nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		// Nothing waits in this process for NATS to come back: a call that was refused must not be stored later.
		nats.ReconnectBufSize(-1),
	}
	if options.User != "" {
		settings = append(settings, nats.UserInfoHandler(func() (string, string) { return options.User, readSecret(options.PasswordFile) }))
	}
	if options.CAFile != "" {
		settings = append(settings, nats.RootCAs(options.CAFile))
	}
	var err error
	if s.connection, err = nats.Connect(options.URL, settings...); err != nil {
		return nil, err
	}
	if s.jet, err = jetstream.New(s.connection); err != nil {
		return nil, err
	}
	go s.prepare(ctx, ready)
	return s, nil
}

// Close ends the connection.
func (s *Store) Close() { s.connection.Close() }

// Ready says whether calls can be stored now.
func (s *Store) Ready() bool {
	select {
	case <-s.ready:
		return s.connection.IsConnected()
	default:
		return false
	}
}

func (s *Store) prepare(ctx context.Context, ready func()) {
	for last := ""; ; {
		err := s.make(ctx)
		if err == nil {
			close(s.ready)
			if ready != nil {
				ready()
			}
			return
		}
		if err.Error() != last {
			logWarn("NATS is not ready", "error", err)
			last = err.Error()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (s *Store) make(ctx context.Context) error {
	if !s.connection.IsConnected() {
		return errors.New("there is no connection")
	}
	if most := s.connection.MaxPayload(); most < maxMessage {
		return fmt.Errorf("the server takes messages of %d bytes, expected max_payload of at least %d", most, maxMessage)
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	maxBytes := s.MaxBytes
	if maxBytes == 0 {
		maxBytes = -1
	}
	for _, stream := range []jetstream.StreamConfig{
		{
			Name: streamCalls, Subjects: []string{"openfaas.calls.*"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
			Replicas: s.Replicas, MaxBytes: maxBytes, Discard: jetstream.DiscardNew,
			// A cron run that every gateway publishes is stored once.
			Duplicates: 2 * time.Minute,
		},
		{
			Name: streamDead, Subjects: []string{"openfaas.dead.*"}, Storage: jetstream.FileStorage, Replicas: s.Replicas, MaxAge: keepDead,
			MaxMsgsPerSubject: 1, Duplicates: 2 * time.Minute,
		},
	} {
		if _, err := s.jet.CreateOrUpdateStream(ctx, stream); err != nil {
			return fmt.Errorf("stream %s: %w", stream.Name, err)
		}
	}
	if err := s.removeOldLanes(ctx); err != nil {
		return err
	}
	for lane := range lanes {
		if _, err := s.jet.CreateOrUpdateConsumer(ctx, streamCalls, s.consumer(lane)); err != nil {
			return fmt.Errorf("consumer of lane %d: %w", lane, err)
		}
	}
	var err error
	s.state, err = s.jet.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: bucketState, TTL: keepResult, Storage: jetstream.FileStorage, Replicas: s.Replicas,
	})
	if err != nil {
		return fmt.Errorf("bucket %s: %w", bucketState, err)
	}
	s.slots, err = s.jet.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		// A place that its worker does not renew is free again.
		Bucket: bucketSlots, TTL: s.AckWait, Storage: jetstream.FileStorage, Replicas: s.Replicas,
	})
	if err != nil {
		return fmt.Errorf("bucket %s: %w", bucketSlots, err)
	}
	return nil
}

// removeOldLanes takes away the consumers of an earlier version, one for each subject: a subject is in one lane at a
// time. Their names are others, so that a worker of that version, which makes them again, is refused.
func (s *Store) removeOldLanes(ctx context.Context) error {
	stream, err := s.jet.Stream(ctx, streamCalls)
	if err != nil {
		return fmt.Errorf("stream %s: %w", streamCalls, err)
	}
	names := stream.ConsumerNames(ctx)
	for name := range names.Name() {
		if strings.HasPrefix(name, "lane-") {
			if err := s.jet.DeleteConsumer(ctx, streamCalls, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
				return fmt.Errorf("consumer %s of an earlier version: %w", name, err)
			}
		}
	}
	return names.Err()
}

func laneName(lane int) string { return fmt.Sprintf("calls-%02d", lane) }

func subjectName(subject int) string { return fmt.Sprintf("openfaas.calls.lane-%02d", subject) }

func subjectOf(account string) int {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(account))
	return int(hash.Sum32() % subjects)
}

func laneOf(account string) int { return subjectOf(account) % lanes }

func (s *Store) consumer(lane int) jetstream.ConsumerConfig {
	var filters []string
	for subject := lane; subject < subjects; subject += lanes {
		filters = append(filters, subjectName(subject))
	}
	return jetstream.ConsumerConfig{
		Durable: laneName(lane), FilterSubjects: filters, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: s.AckWait, MaxDeliver: -1, MaxAckPending: 4096,
	}
}

// publish stores a call; it is stored when this returns nil. The same message ID is stored once.
func (s *Store) publish(ctx context.Context, call *Call, messageID string) error {
	data, err := json.Marshal(call)
	if err != nil {
		return err
	}
	_, err = s.jet.Publish(ctx, subjectName(subjectOf(call.Account)), data, jetstream.WithMsgID(messageID), jetstream.WithRetryAttempts(0))
	return err
}

// get reads a state; nil where there is none.
func (s *Store) get(ctx context.Context, id string) (*State, uint64, error) {
	entry, err := s.state.Get(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrInvalidKey) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	var state State
	return &state, entry.Revision(), json.Unmarshal(entry.Value(), &state)
}

// put writes a state over the revision that was read, 0 where there was none. Somebody else's write in between is
// errChanged.
func (s *Store) put(ctx context.Context, state *State, revision uint64) (uint64, error) {
	data, err := json.Marshal(state)
	if err != nil {
		return 0, err
	}
	if revision == 0 {
		revision, err = s.state.Create(ctx, state.CallID, data)
	} else {
		revision, err = s.state.Update(ctx, state.CallID, data, revision)
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, errChanged
	}
	if refusal, ok := errors.AsType[*jetstream.APIError](err); ok && refusal.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return 0, errChanged
	}
	return revision, err
}

var errChanged = errors.New("the call's state was changed by somebody else")
