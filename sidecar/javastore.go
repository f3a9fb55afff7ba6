package sidecar

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/pem"
	"strconv"
	"time"
	"unicode/utf16"
)

// storePassword protects nothing: the store holds public certificates, and Java
// wants one for its checksum. This is the JDK's own.
const storePassword = "changeit"

// javaTrustStore is a trust store in the JDK's format (JKS, version 2), which
// Java reads whatever type it is told, since 8u60. It is written here because
// no certificate file can be given to a JVM directly.
func javaTrustStore(text []byte, now time.Time) []byte {
	var certs [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			certs = append(certs, block.Bytes)
		}
	}
	var out bytes.Buffer
	put := func(v any) { _ = binary.Write(&out, binary.BigEndian, v) } // a Buffer takes everything
	str := func(s string) { put(uint16(len(s))); out.WriteString(s) }
	put(uint32(0xfeedfeed))
	put(uint32(2))
	put(uint32(len(certs)))
	for i, der := range certs {
		put(uint32(2)) // a trusted certificate
		str("exeat-" + strconv.Itoa(i))
		put(now.UnixMilli())
		str("X.509")
		put(uint32(len(der)))
		out.Write(der)
	}
	sum := storeDigest(out.Bytes())
	return append(out.Bytes(), sum[:]...)
}

// storeDigest is the format's keyed checksum; its words are the format's own.
func storeDigest(data []byte) [sha1.Size]byte {
	var in bytes.Buffer
	for _, unit := range utf16.Encode([]rune(storePassword)) {
		in.Write([]byte{byte(unit >> 8), byte(unit)})
	}
	in.WriteString("Mighty Aphrodite")
	in.Write(data)
	return sha1.Sum(in.Bytes())
}
