package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// EnvPrefix begins the name of every environment variable that is read.
const EnvPrefix = "VALE_VMNET_"

// EnvFile is the environment variable that names the configuration file.
const EnvFile = EnvPrefix + "CONFIG"

// Source says where Load looks.
type Source struct {
	// File is the configuration file. When empty, EnvFile names it; when
	// that is empty too, DefaultFile is read if it exists.
	File string
	// Environ is the environment, as os.Environ gives it.
	Environ []string
	// Flags that were given win over everything else. A flag's name is its
	// key with dashes: log-level for log.level.
	Flags *pflag.FlagSet
}

// Error is a refused configuration.
type Error struct {
	Where  string // "/etc/vale-vmnet/vale-vmnet.yaml:12", "environment variable VALE_VMNET_MTU", "flag --mtu"
	Key    string
	Value  string // empty when the key itself is at fault
	Reason string
}

func (e *Error) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s: key %s: %s", e.Where, e.Key, e.Reason)
	}
	return fmt.Sprintf("%s: key %s: %s %s", e.Where, e.Key, e.Value, e.Reason)
}

// Load reads and checks the configuration.
func Load(src Source) (Config, error) {
	c := Default()
	env := ownEnv(src.Environ)
	f, err := readFile(src.File, env)
	if err != nil {
		return Config{}, err
	}
	c.File = f.name
	for _, name := range sortedKeys(env) {
		if name != EnvFile && !slices.ContainsFunc(keys, func(k key) bool { return k.env() == name }) {
			return Config{}, &Error{Where: "environment variable " + name, Key: name, Reason: "is not a key" + suggest(name, envNames())}
		}
	}

	v := viper.New()
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(f.text)); err != nil {
		return Config{}, fmt.Errorf("%s: %w", f.name, err)
	}
	for _, k := range keys {
		where := ""
		if text, ok := env[k.env()]; ok {
			v.Set(k.name, text)
			where = "environment variable " + k.env()
		}
		if src.Flags != nil {
			if flag := src.Flags.Lookup(k.flag()); flag != nil && flag.Changed {
				v.Set(k.name, flag.Value.String())
				where = "flag --" + flag.Name
			}
		}
		if !v.IsSet(k.name) {
			continue
		}
		if err := k.set(&c, v.Get(k.name)); err != nil {
			return Config{}, f.blame(err, where, k.name)
		}
	}
	if err := c.check(f); err != nil {
		return Config{}, err
	}
	return c, nil
}

// blame completes the error of a key's setter. An empty where is the file.
func (f *file) blame(err error, where, key string) error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Reason: err.Error()}
	}
	e.Key = key + e.Key
	if e.Where = where; where == "" {
		e.Where = f.at(e.Key)
	}
	return e
}

// ownEnv picks our variables. An empty one counts as not set.
func ownEnv(environ []string) map[string]string {
	own := make(map[string]string)
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, EnvPrefix) && value != "" {
			own[name] = value
		}
	}
	return own
}

// readFile finds and reads the configuration file; one that nobody named may
// be missing.
func readFile(name string, env map[string]string) (*file, error) {
	named := true
	if name == "" {
		name = env[EnvFile]
	}
	if name == "" {
		name, named = DefaultFile, false
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return &file{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	f := &file{name: name, text: text}
	return f, f.index()
}
