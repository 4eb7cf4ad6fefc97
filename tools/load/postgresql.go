package main

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const table = `create table if not exists drill.writes (
	run text not null, seq bigint not null, at timestamptz not null default clock_timestamp(), primary key (run, seq))`

type postgresqlStore struct{ pool *pgxpool.Pool }

// newPostgresql takes a connection URI (https://www.postgresql.org/docs/17/libpq-connect.html#LIBPQ-CONNSTRING-URIS).
func newPostgresql(uri string, o options) (store, error) {
	configuration, err := pgxpool.ParseConfig(uri)
	if err != nil {
		return nil, err
	}
	username, password, err := credentials(o.credentials)
	if err != nil {
		return nil, err
	}
	connection := configuration.ConnConfig
	if username != "" {
		connection.User, connection.Password = username, password
	}
	connection.ConnectTimeout = 2 * time.Second
	// A pooler gives every transaction another session, so no statement is prepared under a name.
	connection.DefaultQueryExecMode = pgx.QueryExecModeExec
	// As many as a service has. Each one that is refused logs in again at once, and what logins take the store does not get.
	configuration.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(context.Background(), configuration)
	return &postgresqlStore{pool}, err
}

func (s *postgresqlStore) ready(ctx context.Context) error {
	for {
		_, err := s.pool.Exec(ctx, table)
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// How long a write waits for a connection, as in any client's pool. Less than a write may take: a statement that is given up takes its
// connection with it, and logins alone would then keep a busy store from coming back.
const acquireTimeout = time.Second

// A statement of its own is a transaction of its own: the answer is the commit's.
func (s *postgresqlStore) write(ctx context.Context, run, seq string) error {
	number, err := strconv.ParseInt(seq, 10, 64)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	connection, err := s.pool.Acquire(waiting)
	if err != nil {
		return err
	}
	defer connection.Release()
	_, err = connection.Exec(ctx, "insert into drill.writes (run, seq) values ($1, $2)", run, number)
	return err
}

func (s *postgresqlStore) stored(ctx context.Context, run string, count uint64, found func(uint64)) error {
	rows, err := s.pool.Query(ctx, "select seq from drill.writes where run = $1 and seq < $2", run, int64(count))
	if err != nil {
		return err
	}
	var seq int64
	_, err = pgx.ForEachRow(rows, []any{&seq}, func() error {
		found(uint64(seq))
		return nil
	})
	return err
}

func (s *postgresqlStore) forget(ctx context.Context, run string, _ uint64) error {
	_, err := s.pool.Exec(ctx, "delete from drill.writes where run = $1", run)
	return err
}
