package main

import (
	"context"
	"crypto/aes"

	"google.golang.org/protobuf/proto"
	"k8s.io/apiserver/pkg/storage/value"
	aestransformer "k8s.io/apiserver/pkg/storage/value/encrypt/aes"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"
	"k8s.io/apiserver/pkg/storage/value/encrypt/secretbox"
)

// What upstream writes for a value at a key, and with which secret.
type sealed struct {
	Algorithm string `json:"algorithm"`
	Secret    []byte `json:"secret"`
	Key       string `json:"key"`
	Plain     string `json:"plain"`
	Data      []byte `json:"data"`
}

func encryptWorld() []sealed {
	const key, plain = "/registry/core/secrets/n/s", "what nobody is to read"
	var all []sealed
	add := func(algorithm string, secret []byte, transformer value.Transformer, wrap func([]byte) []byte) {
		data, err := transformer.TransformToStorage(context.Background(), []byte(plain), value.DefaultContext(key))
		if err != nil {
			fail(err)
		}
		if wrap != nil {
			data = wrap(data)
		}
		all = append(all, sealed{algorithm, secret, key, plain, data})
	}
	secret := []byte("0123456789abcdef0123456789abcdef")
	for _, size := range []int{16, 32} {
		block, err := aes.NewCipher(secret[:size])
		if err != nil {
			fail(err)
		}
		gcm, err := aestransformer.NewGCMTransformer(block)
		if err != nil {
			fail(err)
		}
		add("aesgcm", secret[:size], gcm, nil)
	}
	for _, size := range []int{16, 24, 32} {
		block, err := aes.NewCipher(secret[:size])
		if err != nil {
			fail(err)
		}
		add("aescbc", secret[:size], aestransformer.NewCBCTransformer(block), nil)
	}
	add("secretbox", secret, secretbox.NewSecretboxTransformer([32]byte(secret)), nil)
	envelope := func(kind kmstypes.EncryptedDEKSourceType) func([]byte) []byte {
		return func(data []byte) []byte {
			object := &kmstypes.EncryptedObject{
				EncryptedData: data, KeyID: "key", EncryptedDEKSource: []byte("source"),
				Annotations: map[string][]byte{"a.example": []byte("note")}, EncryptedDEKSourceType: kind,
			}
			message, err := proto.Marshal(object)
			if err != nil {
				fail(err)
			}
			return message
		}
	}
	seed, err := aestransformer.NewHKDFExtendedNonceGCMTransformer(secret)
	if err != nil {
		fail(err)
	}
	add("seed", secret, seed, envelope(kmstypes.EncryptedDEKSourceType_HKDF_SHA256_XNONCE_AES_GCM_SEED))
	block, err := aes.NewCipher(secret)
	if err != nil {
		fail(err)
	}
	gcm, err := aestransformer.NewGCMTransformer(block)
	if err != nil {
		fail(err)
	}
	add("key", secret, gcm, envelope(kmstypes.EncryptedDEKSourceType_AES_GCM_KEY))
	return all
}
