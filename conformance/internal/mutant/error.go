package mutant

func errorMutants() []Mutant { return nil }
