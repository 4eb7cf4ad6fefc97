// Package settings reads the environment. Wrong values are collected, so that one start names all of them.
package settings

import (
	"fmt"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

// A Reader reads variables and remembers what is wrong with them.
type Reader struct {
	lookup func(string) (string, bool)
	wrong  []string
}

// FromEnvironment reads the process's own variables.
func FromEnvironment() *Reader { return &Reader{lookup: os.LookupEnv} }

// From reads the variables of a map; for tests.
func From(variables map[string]string) *Reader {
	return &Reader{lookup: func(name string) (string, bool) { value, ok := variables[name]; return value, ok }}
}

// Refuse notes that a variable is wrong: what was found, and what was expected.
func (r *Reader) Refuse(name, found, expected string) {
	r.wrong = append(r.wrong, fmt.Sprintf("%s is %q, expected %s", name, found, expected))
}

// Err is nil, or names all variables that were wrong.
func (r *Reader) Err() error {
	if len(r.wrong) == 0 {
		return nil
	}
	sort.Strings(r.wrong)
	return fmt.Errorf("the environment is wrong:\n  %s", strings.Join(r.wrong, "\n  "))
}

// Text is a variable as it is. A variable that is empty counts as one that is not set.
func (r *Reader) Text(name, otherwise string) string {
	if value, ok := r.lookup(name); ok && value != "" {
		return value
	}
	return otherwise
}

// List is separated by commas; spaces around a part do not count.
func (r *Reader) List(name string, otherwise ...string) []string {
	var parts []string
	for part := range strings.SplitSeq(r.Text(name, ""), ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	if parts == nil {
		return otherwise
	}
	return parts
}

// Number is a whole number within bounds.
func (r *Reader) Number(name string, otherwise, least, most int) int {
	text := r.Text(name, "")
	if text == "" {
		return otherwise
	}
	number, err := strconv.Atoi(text)
	if err != nil || number < least || number > most {
		r.Refuse(name, text, fmt.Sprintf("a whole number from %d to %d", least, most))
		return otherwise
	}
	return number
}

// Seconds is a duration given as a number of seconds, with a fraction where that makes sense.
func (r *Reader) Seconds(name string, otherwise time.Duration) time.Duration {
	text := r.Text(name, "")
	if text == "" {
		return otherwise
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || number < 0 || number > 86400 {
		r.Refuse(name, text, "a number of seconds from 0 to 86400")
		return otherwise
	}
	return time.Duration(number * float64(time.Second))
}

// Switch is true or false.
func (r *Reader) Switch(name string, otherwise bool) bool {
	switch text := r.Text(name, ""); text {
	case "":
		return otherwise
	case "true":
		return true
	case "false":
		return false
	default:
		r.Refuse(name, text, "true or false")
		return otherwise
	}
}

// URL is an address with one of the schemes; nil where it is not set.
func (r *Reader) URL(name string, schemes ...string) *url.URL {
	text := r.Text(name, "")
	if text == "" {
		return nil
	}
	address, err := url.Parse(text)
	if err == nil && address.Host != "" {
		for _, scheme := range schemes {
			if address.Scheme == scheme {
				return address
			}
		}
	}
	r.Refuse(name, text, strings.Join(schemes, ":// or ")+"://HOST[:PORT]")
	return nil
}
