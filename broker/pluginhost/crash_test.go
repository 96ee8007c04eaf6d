package pluginhost_test

const testHostArg = "be-a-host"

func beHost([]string) {}
