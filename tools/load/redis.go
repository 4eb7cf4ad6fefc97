package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// How long the master may take to hear from its replicas, as in the controller (images/controller/src/session.rs).
	replicationWait = 500 * time.Millisecond
	// What a drill that is killed leaves behind goes by itself.
	keyLife = time.Hour
	batch   = 500
)

type redisStore struct {
	client  *redis.Client
	confirm int
}

func newRedis(address *url.URL, o options) (store, error) {
	if _, _, err := credentials(o.credentials); err != nil {
		return nil, err
	}
	var encrypted *tls.Config
	if address.Scheme == "rediss" {
		roots, err := authorities(address.Query().Get("cacert"))
		if err != nil {
			return nil, err
		}
		encrypted = &tls.Config{ServerName: address.Hostname(), RootCAs: roots}
	}
	return &redisStore{confirm: o.confirm, client: redis.NewClient(&redis.Options{
		Addr:      address.Host,
		TLSConfig: encrypted,
		// Read at each connection, as a client does whose password is rotated.
		CredentialsProviderContext: func(context.Context) (string, string, error) { return credentials(o.credentials) },
		ContextTimeoutEnabled:      true,
		// Every write is sent once: what fails is a failure that a caller sees.
		MaxRetries:               -1,
		DialerRetries:            1,
		DialTimeout:              time.Second,
		ReadTimeout:              2 * time.Second,
		WriteTimeout:             2 * time.Second,
		PoolSize:                 64,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})}, nil
}

func key(run, seq string) string { return "drill:" + run + ":" + seq }

func (s *redisStore) ready(ctx context.Context) error {
	for {
		err := s.client.Ping(ctx).Err()
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (s *redisStore) write(ctx context.Context, run, seq string) error {
	if s.confirm == 0 {
		return s.client.Set(ctx, key(run, seq), seq, keyLife).Err()
	}
	var waited *redis.Cmd
	_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, key(run, seq), seq, keyLife)
		waited = pipe.Do(ctx, "wait", s.confirm, replicationWait.Milliseconds())
		return nil
	})
	if err != nil {
		return err
	}
	if reached, err := waited.Int64(); err != nil || reached < int64(s.confirm) {
		return fmt.Errorf("the write reached %d of %d replicas", reached, s.confirm)
	}
	return nil
}

func (s *redisStore) stored(ctx context.Context, run string, count uint64, found func(uint64)) error {
	return s.inBatches(count, func(first, end uint64) error {
		reads := make([]*redis.StringCmd, 0, batch)
		_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for seq := first; seq < end; seq++ {
				reads = append(reads, pipe.Get(ctx, key(run, strconv.FormatUint(seq, 10))))
			}
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		for i, read := range reads {
			seq := first + uint64(i)
			if value, err := read.Result(); err == nil && value == strconv.FormatUint(seq, 10) {
				found(seq)
			} else if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
		}
		return nil
	})
}

func (s *redisStore) forget(ctx context.Context, run string, count uint64) error {
	return s.inBatches(count, func(first, end uint64) error {
		_, err := s.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for seq := first; seq < end; seq++ {
				pipe.Unlink(ctx, key(run, strconv.FormatUint(seq, 10)))
			}
			return nil
		})
		return err
	})
}

func (s *redisStore) inBatches(count uint64, each func(first, end uint64) error) error {
	for first := uint64(0); first < count; first += batch {
		if err := each(first, min(first+batch, count)); err != nil {
			return err
		}
	}
	return nil
}
