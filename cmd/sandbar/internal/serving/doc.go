// Package serving is the broker behind the commands that take one, serve and plugin:
// it finds and reads the configuration, and makes of it what package server runs.
//
// Package cli knows it as an interface only, so that the program of the command line
// links no database, no rules and no telemetry, and starts quickly.
package serving
