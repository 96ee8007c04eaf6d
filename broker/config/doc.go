// Package config reads the configuration file of a broker: strict YAML, in which
// an unknown key, a wrong type or an impossible value is an error that names
// file, line, field, value and what would be right. All such errors are
// reported at once.
//
// Everything is optional. The zero Config is the local provider on a Unix
// socket. The package reads the file it is told and the files that secrets name,
// nothing else: the environment is handed in by the caller.
//
//	cfg, err := config.Load("/etc/sandbar/config.yaml")
package config
