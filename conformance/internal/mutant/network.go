package mutant

func networkMutants() []Mutant { return nil }
