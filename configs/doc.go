// Package configs holds the agent's configuration: its keys, their defaults,
// and how they are read and checked.
//
// A value comes from the first of: a flag, an environment variable
// (VALE_VMNET_LOG_LEVEL for log.level), the configuration file (YAML), the
// default. Reading goes through viper; what a value means is decided here, one
// key at a time, so that every error can name its source, the key, the value
// and the reason. A key that does not exist is an error wherever it is found:
// a typing mistake must not silently become a default.
//
//	Load       flags, environment and file -> Config
//	Default    the built-in values
//	Commented  the default file, with every key explained
package configs
