package mutant

func ptyMutants() []Mutant { return nil }
