package cli

type pluginCmd struct{}
